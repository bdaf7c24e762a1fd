"""Do servers, queues and workers of `racro up` work, also on S3 and Postgres?"""
