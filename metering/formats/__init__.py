"""Wire formats: one module each, bytes in, `metering.drafts` out. They look nothing up and decide nothing."""
