"""What holds for all tests: nothing is signed with an identity that this machine's user happens to have."""

import os


def pytest_configure() -> None:
    os.environ["AFFETTO_SIGN"] = "never"
