"""What pytest loads of dlfn: the option ``--dlfn-audit``. It stands beside the package, whose import loads JAX, so that
a run of pytest without the option costs nothing."""


def pytest_addoption(parser):
    group = parser.getgroup("dlfn")
    group.addoption(
        "--dlfn-audit",
        action="store_true",
        help="check the gradient of every custom rule of JAX (custom_vjp, custom_jvp, dlfn.Op) that the tests meet",
    )
    group.addoption(
        "--dlfn-audit-ignore",
        action="append",
        default=[],
        metavar="NAME",
        help="leave out rules of this name, which are no derivative by intent, such as a straight-through estimator",
    )


def pytest_configure(config):
    if config.getoption("--dlfn-audit"):
        from dlfn.testing.plugin import AuditPlugin

        config.pluginmanager.register(AuditPlugin(config), "dlfn-audit")
