"""For teachers: student versions, grading, feedback and class reports (extra `[teach]`)."""
