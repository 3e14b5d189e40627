"""Environment variables of the tests and of `make fuzz`: no network, no usage sent, one thread."""

SETTINGS = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "ORT_DISABLE_TELEMETRY": "1",  # official builds queue events in XDG_CACHE_HOME, and send them
    "OMP_NUM_THREADS": "1",  # torch: sums in one order, and no threads that outnumber the cores
    "TOKENIZERS_PARALLELISM": "false",
    "MPLBACKEND": "Agg",
}
