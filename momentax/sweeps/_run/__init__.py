"""Running a program at many points: devices, batches, the batch folder and the session."""
