"""Backdoors: data, twins, methods of detection, figures."""
