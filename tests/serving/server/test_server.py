"""Starting and stopping the local server, its options, and its health check."""

import datetime
import ipaddress
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tfrec_meta.commands.main import main
from tfrec_meta.serving import Client, LocalServer, ServerStartError, Unavailable


def _slow(stubs, address, seconds):
    """Starts a call that takes `seconds`; returns its future."""
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name = "movies"
    request.model_spec.signature_name = "slow"
    request.inputs["seconds"].CopyFrom(tf.make_tensor_proto([seconds], tf.float64))
    return stubs(address).prediction.Predict.future(request, timeout=60)


def test_sigterm_finishes_the_call_in_progress_and_exits_with_0(movies_base, stubs, tmp_path):
    base = tmp_path / "movies"
    shutil.copytree(movies_base, base)
    (base / "9").mkdir()  # an incomplete version
    # The client is imported before TensorFlow here; other tests import them in the other order.
    code = (
        "import sys, tfrec_meta.serving.client; from tfrec_meta.commands.main import main; "
        "assert 'tensorflow' not in sys.modules; sys.exit(main())"
    )
    server = subprocess.Popen(
        [sys.executable, "-c", code, "serve", str(base), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = server.stdout.readline()
        assert line.startswith("listening on 127.0.0.1:"), server.stderr.read()
        address = line.split()[-1]
        call = _slow(stubs, address, 3.0)
        with Client(address) as client:
            assert client.metadata().version == 3
            time.sleep(0.5)
            server.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            assert not call.done()
            with pytest.raises(Unavailable):
                client.recommend()
        assert call.result().model_spec.version.value == 3
        _, log = server.communicate(timeout=30)
        assert server.returncode == 0, log
    finally:
        server.kill()
    assert "skipped version 9" in log
    assert "Traceback" not in log


def test_stop_finishes_the_calls_in_progress(movies_base, stubs):
    server = LocalServer(movies_base).start()
    call = _slow(stubs, server.address, 1.0)
    time.sleep(0.3)
    server.stop(grace=20)
    assert call.result().outputs["rounds"].int_val[0] > 0


def test_a_port_in_use_is_one_clear_error(movies_server, movies_base, capsys):
    with pytest.raises(ServerStartError, match=rf"cannot listen on .*{movies_server.port}.*in use"):
        LocalServer(movies_base, port=movies_server.port).start()
    assert main(["serve", str(movies_base), "--port", str(movies_server.port)]) == 1
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("error: cannot listen on")


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda folder: folder / "absent", "is not a folder"),
        (lambda folder: folder, "holds no version"),
        (
            lambda folder: ((folder / "saved_model.pb").write_bytes(b"") and None) or folder,
            "is a version itself",
        ),
    ],
    ids=["absent", "empty", "version folder"],
)
def test_a_base_folder_without_a_version_is_one_line_and_exit_status_1(
    tmp_path, capfd, make, message
):
    base = make(tmp_path)
    assert main(["serve", str(base), "--port", "0"]) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert message in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    "options, message",
    [
        ({"host": "0.0.0.0"}, "can be reached from other machines"),
        ({"host": "10.1.2.3"}, "can be reached from other machines"),
        ({"certificate": "cert.pem"}, "needs both"),
        ({"client_ca": "ca.pem"}, "needs TLS"),
        ({"port": 70000}, "`port`=70000"),
        ({"threads": 0}, "`threads`=0"),
        ({"versions": "newest"}, "`versions`='newest'"),
    ],
)
def test_refuses_unsafe_and_invalid_options(movies_base, options, message):
    with pytest.raises(ServerStartError, match=message):
        LocalServer(movies_base, **options)


def test_a_failed_start_frees_its_port(tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"cut")
    server = LocalServer(tmp_path, poll_seconds=0)
    with pytest.raises(ServerStartError):
        server.start()
    with socket.create_server(("127.0.0.1", server.port)):
        pass


@pytest.mark.parametrize("name", ["certificate", "key"])
def test_tls_files_without_pem_content_are_named(name, movies_base, tmp_path):
    files = {
        "certificate": "-----BEGIN CERTIFICATE-----\n",
        "key": "-----BEGIN EC PRIVATE KEY-----\n",
    }
    files[name] = "nothing"
    for file, text in files.items():
        (tmp_path / file).write_text(text)
    server = LocalServer(movies_base, **{file: tmp_path / file for file in files})
    with pytest.raises(ServerStartError, match=rf"`{name}`='.*' is not a PEM file"):
        server.start()


def test_unreadable_tls_files_are_one_clear_error(movies_base):
    with pytest.raises(ServerStartError, match=r"TLS files.*absent\.pem"):
        LocalServer(movies_base, certificate="absent.pem", key="absent.pem").start()


def self_signed(folder):
    """Writes a certificate for localhost and its key, valid for a day; returns their paths."""
    secret = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(secret.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(secret, hashes.SHA256())
    )
    certificate, key = folder / "cert.pem", folder / "key.pem"
    pem = serialization.Encoding.PEM
    certificate.write_bytes(made.public_bytes(pem))
    kind = serialization.PrivateFormat.PKCS8
    key.write_bytes(secret.private_bytes(pem, kind, serialization.NoEncryption()))
    return certificate, key


def test_uses_tls_with_a_certificate(movies_base, tmp_path):
    certificate, key = self_signed(tmp_path)
    with LocalServer(movies_base, certificate=certificate, key=key) as server:
        with Client(server.address, tls=certificate, timeout=20) as client:
            assert len(client.recommend(k=2)) == 2
        with Client(server.address, timeout=0.3) as client, pytest.raises(Unavailable):
            client.recommend()


def test_refuses_calls_beyond_the_number_of_threads(movies_base, stubs):
    with LocalServer(movies_base, threads=1) as server:
        first = _slow(stubs, server.address, 1.5)
        time.sleep(0.3)
        with pytest.raises(grpc.RpcError) as caught:
            _slow(stubs, server.address, 0.0).result()
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert first.result()


def test_refuses_a_message_above_the_limit(movies_base):
    from tfrec_meta.serving import ServingError

    with (
        LocalServer(movies_base, max_message_bytes=10_000) as server,
        Client(server.address, timeout=20) as client,
    ):
        with pytest.raises(ServingError, match="Send smaller") as caught:
            client.recommend("u" * 20_000)
        assert caught.value.code == grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("service", [b"", b"tensorflow.serving.PredictionService"])
def test_the_health_check_answers_serving(movies_server, service):
    request = b"\n" + bytes([len(service)]) + service if service else b""  # field 1, a string
    assert _health(movies_server, request) == b"\x08\x01"  # field 1, SERVING


def test_the_health_check_refuses_an_unknown_service(movies_server):
    with pytest.raises(grpc.RpcError) as caught:
        _health(movies_server, b"\n\x04nope")
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def _health(server, request):
    with grpc.insecure_channel(server.address, [("grpc.enable_http_proxy", 0)]) as channel:
        return channel.unary_unary("/grpc.health.v1.Health/Check")(request, timeout=10)


def test_each_of_many_threads_gets_its_own_answer(movies_server):
    answers, failures = {}, []

    def recommend(index):
        history = [f"m{index % 6 + 1}"]
        try:
            answers[index] = client.recommend("", history, k=index % 5 + 1)
        except Exception as error:
            failures.append(error)

    with Client(movies_server.address, timeout=30) as client:
        threads = [threading.Thread(target=recommend, args=(index,)) for index in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failures
    for index, answer in answers.items():
        assert len(answer) == index % 5 + 1
        assert f"m{index % 6 + 1}" not in {each.item_id for each in answer}
