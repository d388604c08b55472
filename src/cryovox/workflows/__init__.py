"""The verbs: what every face calls. Files, devices and seeds are settled here."""
