"""Reports: turns analysed measurements into documents and figures; nothing is measured here."""
