"""What keeps text from acting: labels, injection, exfiltration, redaction, and checks of output and citations."""
