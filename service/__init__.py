"""HTTP: search, zero-shot classification and the archive's studies. The app is made by ``service.app.create_app``.

Nothing is imported here: the command line and the processes that decode images start without the web framework.
"""
