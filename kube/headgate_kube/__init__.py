"""The one Kubernetes client of Headgate, a thin layer on `kubernetes.aio`."""
