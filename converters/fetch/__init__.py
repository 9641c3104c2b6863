"""Pictures by URL: bounded in time, size, attempts and addresses, checked before they count, cached only when good."""

from converters.fetch.fetcher import ImageFetcher
from converters.fetch.image_cache import FetchSpool, ImageCache
from converters.fetch.picture_check import Picture, check_picture
from converters.fetch.policy import FetchPolicy, add_fetch_arguments, fetch_policy_from

__all__ = [
    "FetchPolicy",
    "FetchSpool",
    "ImageCache",
    "ImageFetcher",
    "Picture",
    "add_fetch_arguments",
    "check_picture",
    "fetch_policy_from",
]
