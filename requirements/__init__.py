"""What an installation consists of: hashed locks, and what looks at them (licences, known vulnerabilities)."""
