-- Version 1. Times are seconds since the Unix epoch; there is no absolute path in here.
CREATE TABLE schema_info (
  version INTEGER NOT NULL
);
CREATE TABLE runs (
  run_id TEXT PRIMARY KEY,
  workspace TEXT NOT NULL,
  status TEXT NOT NULL CHECK (status IN ('PENDING', 'RUNNING', 'PAUSED', 'COMPLETED', 'FAILED', 'CANCELLED')),
  reason TEXT,
  created_at REAL NOT NULL,
  iteration INTEGER NOT NULL,
  campaign_state TEXT NOT NULL
);
-- The counters spare every tick a scan of the tasks.
CREATE TABLE iterations (
  iteration INTEGER PRIMARY KEY,
  created_at REAL NOT NULL,
  ended_at REAL,
  total INTEGER NOT NULL DEFAULT 0,
  pending INTEGER NOT NULL DEFAULT 0,
  ready INTEGER NOT NULL DEFAULT 0,
  submitted INTEGER NOT NULL DEFAULT 0,
  completed INTEGER NOT NULL DEFAULT 0,
  failed INTEGER NOT NULL DEFAULT 0,
  skipped INTEGER NOT NULL DEFAULT 0,
  cancelled INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE tasks (
  id INTEGER PRIMARY KEY,
  iteration INTEGER NOT NULL REFERENCES iterations,
  task_id TEXT NOT NULL,
  status TEXT NOT NULL DEFAULT 'PENDING'
    CHECK (status IN ('PENDING', 'SUBMITTED', 'COMPLETED', 'FAILED', 'SKIPPED', 'CANCELLED')),
  operator TEXT NOT NULL,
  unmet INTEGER NOT NULL CHECK (unmet >= 0),
  attempts INTEGER NOT NULL DEFAULT 0,
  failures INTEGER NOT NULL DEFAULT 0,
  retries INTEGER NOT NULL,
  allow_failure INTEGER NOT NULL,
  allow_dependency_failure INTEGER NOT NULL,
  reason TEXT,
  spec TEXT NOT NULL,
  UNIQUE (iteration, task_id)
);
CREATE INDEX ready_tasks ON tasks (operator, id) WHERE status = 'PENDING' AND unmet = 0;
CREATE TABLE dependencies (
  dependency INTEGER NOT NULL REFERENCES tasks,
  task INTEGER NOT NULL REFERENCES tasks,
  PRIMARY KEY (dependency, task)
) WITHOUT ROWID;
CREATE INDEX dependencies_of_task ON dependencies (task);
CREATE TABLE attempts (
  id INTEGER PRIMARY KEY,
  task INTEGER NOT NULL REFERENCES tasks,
  attempt INTEGER NOT NULL,
  status TEXT NOT NULL CHECK (status IN
    ('SUBMITTING', 'SUBMITTED', 'RUNNING', 'WAITING', 'COLLECTING', 'COMPLETED', 'FAILED', 'LOST', 'CANCELLED')),
  token TEXT NOT NULL UNIQUE,
  external_id TEXT,
  reason TEXT,
  submitted_at REAL NOT NULL,
  started_at REAL,
  ended_at REAL,
  exit_code INTEGER,
  data TEXT,
  UNIQUE (task, attempt)
);
-- At most one live attempt a task, whoever writes.
CREATE UNIQUE INDEX live_attempts ON attempts (task)
  WHERE status IN ('SUBMITTING', 'SUBMITTED', 'RUNNING', 'WAITING', 'COLLECTING');
-- One row a transition; the subject is the attempt, else the task, else the run.
CREATE TABLE events (
  seq INTEGER PRIMARY KEY,
  at REAL NOT NULL,
  task INTEGER,
  attempt INTEGER,
  event TEXT NOT NULL,
  status TEXT NOT NULL,
  reason TEXT
);
-- Operators that cannot be asked now; a row goes when the operator answers.
CREATE TABLE operator_troubles (
  operator TEXT PRIMARY KEY,
  failures INTEGER NOT NULL,
  since REAL NOT NULL,
  ask_again_at REAL NOT NULL,
  reason TEXT NOT NULL,
  suspended INTEGER NOT NULL
);
INSERT INTO schema_info (version) VALUES (1);
