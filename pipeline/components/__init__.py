"""The nodes of the pipeline that prepare data, search, train, evaluate, probe and push."""
