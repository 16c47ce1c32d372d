"""Detecting, cropping and measuring faces in pictures and videos."""
