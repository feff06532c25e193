"""Usual names of the columns of event logs, in shops, media, news and games.

Names are compared without case, accents, separators and trailing numbers, as in
`data.privacy.column_names`: `CustomerID`, `customer_id` and `customer id` are one name.
"""

from __future__ import annotations

from collections.abc import Mapping

from tfrec_meta.data.privacy.column_names import name_words

_ID_WORDS = frozenset(
    ("id", "ids", "no", "nr", "num", "number", "code", "key", "uuid", "guid", "hash", "index")
    + ("ref", "sk", "pk", "nummer", "numero", "kennung", "codigo")
)
_FIRST_ID_WORDS = frozenset(("id", "code", "codigo", "numero"))  # as in "id_cliente"
# Endings in one word with what they number: "Kundennummer", "userid".
_ID_ENDINGS = ("nummer", "kennung", "number", "code", "num", "id", "nr", "no")


def compact(name: str) -> str:
    """Returns a name of a column without case, accents, separators and trailing numbers.

    Example:
        >>> compact("Event Time_2")
        'eventtime'
    """
    return "".join(name_words(name))


def _set(text: str) -> frozenset[str]:
    return frozenset(compact(name) for name in text.split(","))


USUAL: Mapping[str, frozenset[str]] = {
    "user_id": _set(
        "user, uid, customer, cust, client, visitor, member, subscriber, buyer, shopper, account,"
        "reader, listener, viewer, player, reviewer, person, patron, guest, consumer, learner,"
        "student, household, profile, msno, kunde, kunden, nutzer, benutzer, cliente, usuario,"
        "utilisateur, 用户"
    ),
    "item_id": _set(
        "item, iid, product, prod, article, sku, asin, isbn, ean, stock, goods, movie, film, video,"
        "track, song, artist, album, book, news, story, content, asset, listing, show, episode,"
        "game, app, podcast, recipe, course, offer, ad, hotel, restaurant, business, place, venue,"
        "artikel, produkt, producto, produit, 商品"
    ),
    "time": _set(
        "time, timestamp, ts, date, datetime, event time, event timestamp, event date, created at,"
        "created, unix time, time stamp, unix review time, review date, review time, order date,"
        "order time, purchase date, invoice date, day, when, occurred at, viewed at, clicked at,"
        "purchased at, played at, listened at, watched at, read at, published at, server time,"
        "local time, datum, zeit, zeitpunkt, zeitstempel, fecha, heure, 时间"
    ),
    "value": _set(
        "value, rating, ratings, score, stars, overall, weight, quantity, qty, amount, count,"
        "plays, play count, minutes, duration, watch time, dwell time, listen time, watch ratio,"
        "bewertung, menge, anzahl, cantidad, quantite, 评分"
    ),
    "event_type": _set(
        "event type, event, event name, action, action type, type, interaction, interaction type,"
        "behavior, behaviour, behavior type, behaviour type, activity, activity type, verb,"
        "operation, feedback type, aktion, aktionstyp, ereignis, ereignistyp, vorgang, typ,"
        "evento, tipo, tipo evento, accion, evenement, type evenement, 行为"
    ),
}
"""Compact names by the column that they stand for. Names of ids are without words such as "id"."""
FALLBACK_USERS = _set("session, device, cookie, anonymous, browser, household, ip")
"""What stands for users in logs without them."""
FALLBACK_ITEMS = _set("page, url, link, post, title, name, query, category, brand")
"""What may stand for items in logs without ids of them."""
TITLES = _set(
    "title, name, item name, product name, label, titel, bezeichnung, artikelbezeichnung,"
    "artikelname, produktname, produktbezeichnung, titre, nom, libelle, titulo, nombre"
)
"""What titles of items are called."""
EVENT_TYPES = _set(
    "view, views, pv, page view, detail view, product view, impression, show, shown, click,"
    "clicks, open, read, visit, cart, add to cart, basket, add to basket, remove from cart, buy,"
    "purchase, purchased, order, checkout, transaction, sale, return, refund, wishlist, fav,"
    "favorite, favourite, bookmark, save, like, dislike, love, rate, rating, review, share,"
    "comment, follow, play, plays, listen, skip, pause, stop, complete, completed, finish, watch,"
    "start, search, download, install, subscribe,"
    "ansicht, aufruf, angesehen, klick, warenkorb, in den warenkorb, kauf, gekauft, bestellung,"
    "bestellt, merkliste, wunschliste, rückgabe, retoure, bewertung, suche,"
    "vue, consultation, clic, panier, ajout panier, ajout au panier, achat, commande, favori,"
    "retour, recherche,"
    "vista, visita, carrito, añadir al carrito, compra, pedido, favorito, devolución, búsqueda"
)
"""Usual values of event types."""


def without_id(name: str) -> tuple[list[str], bool]:
    """Returns the words of a column name without words such as "id", and whether it had one.

    Example:
        >>> without_id("CustomerID"), without_id("shop_customer_no")
        ((['customer'], True), (['shop', 'customer'], True))
        >>> without_id("Kundennummer"), without_id("id_cliente")
        ((['kunden'], True), (['cliente'], True))
    """
    words = name_words(name)
    bare = list(words)
    while len(bare) > 1 and bare[-1] in _ID_WORDS:
        bare.pop()
    while len(bare) > 1 and bare[0] in _FIRST_ID_WORDS:
        bare.pop(0)
    if len(bare) == 1 and bare == words:  # "userid", "visitorid": one word
        for ending in _ID_ENDINGS:
            stem = bare[0].removesuffix(ending)
            if stem != bare[0] and any(stem in USUAL[key] for key in ("user_id", "item_id")):
                return [stem], True
    return bare, len(bare) < len(words)
