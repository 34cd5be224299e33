"""`eyespot inspect batch|model|data|file`: look before training; one file for each thing that can be looked at."""
