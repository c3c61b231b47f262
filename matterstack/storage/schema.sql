-- Version 2. Times are seconds since the Unix epoch; there is no absolute path in here.
-- What version 1 did not have stands last in its table: a database that was lifted is as one that was made new.
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
  campaign_state TEXT NOT NULL,
  code TEXT,  -- the revision of the user's own modules when the run was made, JSON
  tags TEXT,  -- words that the run is found by, a JSON list; NULL for none
  told INTEGER  -- the last event that says something of notices; its data is what has to be known for the next ones
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
  cancelled INTEGER NOT NULL DEFAULT 0,
  places INTEGER,  -- of a campaign that streams: how many tasks it keeps unfinished; else NULL
  asked INTEGER  -- of such a one: the last event when it was asked last; NULL before
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
  priority INTEGER NOT NULL DEFAULT 0,  -- higher ones are submitted first
  held TEXT,  -- why it is not submitted although it could be: a person's word, a question, JSON
  not_before REAL,  -- when its next attempt may begin: a delay after a failure
  changes TEXT,  -- how its next attempts differ from spec, JSON
  taken INTEGER,  -- of a campaign that streams: whether it has taken the result; else NULL
  tags TEXT,  -- words that the task is found by, planned and added later, a JSON list; NULL for none
  UNIQUE (iteration, task_id)
);
CREATE INDEX ready_tasks ON tasks (operator, priority DESC, id)
  WHERE status = 'PENDING' AND unmet = 0 AND held IS NULL;
-- So that an iteration without scratch is asked about it in one look.
CREATE INDEX scratch_tasks ON tasks (iteration) WHERE instr(spec, '"scratch":') > 0;
CREATE INDEX untaken_tasks ON tasks (iteration, status, id) WHERE taken = 0;
-- So that no task is added whose directory another one has where names differ in more than case.
CREATE UNIQUE INDEX streamed_tasks ON tasks (iteration, task_id COLLATE NOCASE) WHERE taken IS NOT NULL;
CREATE TABLE dependencies (
  dependency INTEGER NOT NULL REFERENCES tasks,
  task INTEGER NOT NULL REFERENCES tasks,
  PRIMARY KEY (dependency, task)
) WITHOUT ROWID;
CREATE INDEX dependencies_of_task ON dependencies (task);
-- What attempts ran in: host, Python, versions of packages, container, modules; thousands share a row.
CREATE TABLE environments (
  id INTEGER PRIMARY KEY,
  record TEXT NOT NULL UNIQUE
);
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
  environment INTEGER REFERENCES environments,
  not_hashed TEXT,  -- outputs without a hash, and why, JSON
  cached TEXT,  -- which entry of a cache it took, in place of running, JSON
  changes TEXT,  -- what it was made with that spec says otherwise, JSON
  usage TEXT,  -- CPU time and peak memory, JSON; NULL where nobody has measured them
  archive TEXT,  -- the archive that its directory was put into
  UNIQUE (task, attempt)
);
-- At most one live attempt a task, whoever writes.
CREATE UNIQUE INDEX live_attempts ON attempts (task)
  WHERE status IN ('SUBMITTING', 'SUBMITTED', 'RUNNING', 'WAITING', 'COLLECTING');
-- Files and values that an attempt takes: of another attempt, of another run, or from outside. What only comes after
-- another task takes its data; that is a row of dependencies.
CREATE TABLE inputs (
  attempt INTEGER NOT NULL REFERENCES attempts,
  name TEXT NOT NULL,
  source INTEGER REFERENCES attempts,
  path TEXT,  -- what it is called there
  sha256 TEXT,  -- of what came from outside; of what another attempt left, outputs has it
  origin TEXT,  -- which run, task and attempt it is of, where that is another run
  PRIMARY KEY (attempt, name)
) WITHOUT ROWID;
CREATE INDEX uses_of_attempt ON inputs (source) WHERE source IS NOT NULL;
-- What an attempt left that was hashed where it was made.
CREATE TABLE outputs (
  attempt INTEGER NOT NULL REFERENCES attempts,
  name TEXT NOT NULL,
  sha256 TEXT NOT NULL,
  size INTEGER NOT NULL,
  PRIMARY KEY (attempt, name)
) WITHOUT ROWID;
-- One row a transition; the subject is the attempt, else the task, else the run.
CREATE TABLE events (
  seq INTEGER PRIMARY KEY,
  at REAL NOT NULL,
  task INTEGER,
  attempt INTEGER,
  event TEXT NOT NULL,
  status TEXT NOT NULL,
  reason TEXT,
  who TEXT,  -- whose word it was: their account on the computer; NULL for what ticks did
  data TEXT  -- what else is known of it, JSON: what was cleaned or packed
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
INSERT INTO schema_info (version) VALUES (2);
