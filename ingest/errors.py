"""What can go wrong with a user's input; each message is one sentence that says what to do."""


class FlowpolicyError(Exception):
    """Trouble that the user can mend; commands print it as one line and exit 1."""


class SourceError(FlowpolicyError):
    """A log source is missing, unreadable or holds no log."""


class StoreError(FlowpolicyError):
    """A flow store is missing, of a newer schema, or not a store."""


class SparkError(FlowpolicyError):
    """The cluster of Spark could not do what it was asked to."""
