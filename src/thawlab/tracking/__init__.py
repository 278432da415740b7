"""What a run leaves in MLflow; nothing outside this package imports mlflow. Imported from `training` up."""

import os

# Some are read while mlflow is being imported, so they stand before any such import. A value of the user's own wins.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # training sends nothing to anybody unless asked to
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # table creation and migrations are no news to a user
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # it would break into the training's own bars
os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"  # at the end of each run, with its password
