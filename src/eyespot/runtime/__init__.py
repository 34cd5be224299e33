"""The machine: device and number type, processes, log, and every size limit."""
