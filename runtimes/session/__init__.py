"""The generation loop of all runtimes, and the interface of the backends that it drives."""
