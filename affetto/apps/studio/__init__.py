"""The studio: a page in the browser in which a creator directs a performance, over the same jobs as `affetto batch`."""
