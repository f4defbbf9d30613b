"""The one error of the local cluster."""

from headgate_api.errors import HeadgateError


class ClusterError(HeadgateError):
    """The machine, a tool or a component did not do its part; the message holds its last words."""
