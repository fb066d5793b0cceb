package localpostgres

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
)

func TestNewServer(t *testing.T) {
	t.Parallel()
	server := start(t, Config{Settings: []string{"idle_in_transaction_session_timeout=7min"}})
	require.NoError(t, server.CreateDatabase(testContext(t), `my "db"/1`))
	require.ErrorContains(t, server.CreateDatabase(testContext(t), `my "db"/1`), "already exists")
	db := open(t, server.URL(`my "db"/1`))
	for what, want := range map[string]string{
		"SELECT current_database()":                `my "db"/1`,
		"SHOW server_encoding":                     "UTF8",
		"SELECT lower('AÄ')":                       "aÄ", // sorts and folds as bytes do
		"SHOW listen_addresses":                    "127.0.0.1",
		"SHOW idle_in_transaction_session_timeout": "7min",
		"SHOW fsync":                               "on",
		"SHOW synchronous_commit":                  "on",
		"SHOW full_page_writes":                    "on",
		"SHOW max_connections":                     "200",
	} {
		require.Equal(t, want, query[string](t, db, what), what)
	}
	require.FileExists(t, server.LogFile())
}

// TestNoSync shows that nothing is given up but the wait for the disk.
func TestNoSync(t *testing.T) {
	t.Parallel()
	db := open(t, start(t, Config{NoSync: true}).URL("postgres"))
	require.Equal(t, "off", query[string](t, db, "SHOW fsync"))
	require.Equal(t, "on", query[string](t, db, "SHOW synchronous_commit"))
	require.Equal(t, "on", query[string](t, db, "SHOW full_page_writes"))
}

func TestRestart(t *testing.T) {
	t.Parallel()
	server := start(t, Config{NoSync: true})
	before := server.URL("postgres")
	db := open(t, before)
	execute(t, db, "CREATE TABLE t AS SELECT 1 AS a")
	tx, err := db.BeginTx(testContext(t), nil)
	require.NoError(t, err)
	_, err = tx.ExecContext(testContext(t), "INSERT INTO t VALUES (2)")
	require.NoError(t, err)

	require.NoError(t, server.Restart(testContext(t)))
	require.Equal(t, before, server.URL("postgres"))
	_, err = tx.ExecContext(testContext(t), "SELECT 1")
	var refused *pgconn.PgError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, "57P01", refused.Code, "admin_shutdown")
	require.Error(t, tx.Commit())
	require.Equal(t, 1, query[int](t, open(t, before), "SELECT count(*) FROM t"))
}

// TestKillKeepsWhatWasCommitted kills a server ten times while clients commit.
func TestKillKeepsWhatWasCommitted(t *testing.T) {
	t.Parallel()
	server := start(t, Config{NoSync: true})
	db := open(t, server.URL("postgres"))
	execute(t, db, "CREATE TABLE t (a int PRIMARY KEY)")
	committed := 0
	for round := range 10 {
		var enough, writers sync.WaitGroup
		counts := make([]int, 8)
		for i := range counts {
			enough.Add(1)
			writers.Go(func() { counts[i] = insertUntilError(server.URL("postgres"), (round*len(counts)+i)*1e6, &enough) })
		}
		enough.Wait()
		require.NoError(t, server.Kill())
		writers.Wait()
		for _, n := range counts {
			committed += n
		}
		require.NoError(t, server.Restart(testContext(t)))
		after := open(t, server.URL("postgres"))
		for i, n := range counts {
			first := (round*len(counts) + i) * 1e6
			found := query[int](t, after, fmt.Sprintf("SELECT count(*) FROM t WHERE a >= %d AND a < %d", first, first+n))
			require.Equal(t, n, found, "writer %d in round %d", i, round)
		}
		require.LessOrEqual(t, query[int](t, after, "SELECT count(*) FROM t")-committed, (round+1)*len(counts),
			"the kill leaves at most one commit per writer without an answer")
		require.NoError(t, after.Close())
	}
}

// insertUntilError inserts rows from first on, a commit each, until one fails, and returns how many did
// not. It is done with enough after the first few.
func insertUntilError(url string, first int, enough *sync.WaitGroup) (n int) {
	said := sync.OnceFunc(enough.Done)
	defer said()
	db, err := sql.Open("pgx", url)
	if err != nil {
		return 0
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	for ; ; n++ {
		if _, err := db.ExecContext(context.Background(), "INSERT INTO t VALUES ($1)", first+n); err != nil {
			return n
		}
		if n == 20 {
			said()
		}
	}
}

// TestKillEndsAllProcesses has one of them busy, which notices nothing of its parent's end.
func TestKillEndsAllProcesses(t *testing.T) {
	t.Parallel()
	server := start(t, Config{NoSync: true})
	db := open(t, server.URL("postgres"))
	busy := make(chan error, 1)
	go func() {
		_, err := db.ExecContext(testContext(t), "DO $$ BEGIN LOOP END LOOP; END $$")
		busy <- err
	}()
	eventually(t, "a client is busy", func() bool {
		return query[int](t, db, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'DO $$%' AND state = 'active'") == 1
	})
	table, err := processes(testContext(t))
	require.NoError(t, err)
	pids, suspended := children(table, server.proc.pid())
	require.False(t, suspended)
	require.GreaterOrEqual(t, len(pids), 3, "two clients, and processes of the server's own")
	segment, ok := sharedMemory(server.data())
	require.True(t, ok)

	require.NoError(t, server.Kill())
	require.Error(t, <-busy)
	table, err = processes(testContext(t))
	require.NoError(t, err)
	for line := range strings.Lines(string(table)) {
		fields := strings.Fields(line)
		pid, err := strconv.Atoi(fields[0])
		require.NoError(t, err)
		if !strings.HasPrefix(fields[2], "Z") {
			require.NotContains(t, pids, pid)
		}
	}
	err = exec.CommandContext(testContext(t), "ipcrm", "-m", strconv.Itoa(segment)).Run()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit, "there is no such segment any more")
	require.NoError(t, server.Kill(), "once more")
}

func TestChildren(t *testing.T) {
	t.Parallel()
	table := "  1     0 Ss\n  20    1 %s\n21 20 S+\n22 20 Z\n23 20 R\n24 1 S\n25 21 S\n" + "a line of another kind\n"
	for state, want := range map[string]bool{"S": false, "R+": false, "T": true, "Ts": true, "Z+": true} {
		pids, suspended := children(fmt.Appendf(nil, table, state), 20)
		require.Equal(t, []int{21, 23}, pids)
		require.Equal(t, want, suspended, state)
	}
	_, suspended := children(nil, 20)
	require.True(t, suspended, "it has ended")
}

func TestStopRemovesATemporaryDirectory(t *testing.T) {
	t.Parallel()
	server := start(t, Config{NoSync: true})
	db := open(t, server.URL("postgres"))
	execute(t, db, "SELECT 1")
	require.DirExists(t, server.dir)
	require.NoError(t, server.Stop(testContext(t)))
	require.NoDirExists(t, server.dir)
	require.Error(t, db.PingContext(testContext(t)))
	require.NoError(t, server.Stop(testContext(t)), "once more")
	require.ErrorIs(t, server.Restart(testContext(t)), ErrRemoved)
}

func TestStopKillsAServerThatTakesTooLong(t *testing.T) {
	t.Parallel()
	server := start(t, Config{NoSync: true})
	ctx, cancel := context.WithCancel(testContext(t))
	cancel()
	err := server.Stop(ctx)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "killed, because it had not ended in time")
	require.False(t, server.proc.alive())
	require.NoDirExists(t, server.dir)
}

// TestDirectoryOutlastsTheServer starts servers in one directory, of which at most one can run.
func TestDirectoryOutlastsTheServer(t *testing.T) {
	t.Parallel()
	dir := directory(t)
	first := start(t, Config{Dir: dir, NoSync: true})
	execute(t, open(t, first.URL("postgres")), "CREATE TABLE t AS SELECT 1 AS a")

	_, err := Start(testContext(t), Config{Dir: dir, NoSync: true})
	var failed *StartError
	require.ErrorAs(t, err, &failed)
	require.ErrorContains(t, err, "postmaster.pid")
	require.Equal(t, 1, query[int](t, open(t, first.URL("postgres")), "SELECT a FROM t"))

	for _, end := range []func() error{first.Kill, func() error { return first.Stop(testContext(t)) }} {
		require.NoError(t, end())
		second := start(t, Config{Dir: dir})
		require.Equal(t, 1, query[int](t, open(t, second.URL("postgres")), "SELECT a FROM t"))
		require.NoError(t, second.Stop(testContext(t)))
		require.NoError(t, first.Restart(testContext(t)))
	}
}

func TestStartSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	_, err := Start(testContext(t), Config{NoSync: true, Settings: []string{"no_such_setting=1"}})
	var failed *StartError
	require.ErrorAs(t, err, &failed)
	require.ErrorContains(t, err, `start PostgreSQL: the server ended: exit status 1`+"\n    ")
	require.ErrorContains(t, err, `unrecognized configuration parameter "no_such_setting"`)
	require.NotContains(t, err.Error(), "initdb")

	ctx, cancel := context.WithCancel(testContext(t))
	cancel()
	_, err = Start(ctx, Config{NoSync: true})
	require.ErrorIs(t, err, context.Canceled)
}

// TestStartWhereRootsServerCannotGo is about t.TempDir(), which others than root cannot reach.
func TestStartWhereRootsServerCannotGo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if os.Geteuid() != 0 {
		start(t, Config{Dir: dir, NoSync: true})
		return
	}
	_, err := Start(testContext(t), Config{Dir: dir, NoSync: true})
	require.ErrorContains(t, err, "run initdb in "+dir)
	require.ErrorContains(t, err, "who must be able to reach the directory")
}

func TestFreePort(t *testing.T) {
	t.Parallel()
	port, err := freePort(testContext(t))
	require.NoError(t, err)
	l, err := new(net.ListenConfig).Listen(testContext(t), "tcp4", address(port))
	require.NoError(t, err)
	require.False(t, isFree(testContext(t), port))
	require.NoError(t, l.Close())
	require.True(t, isFree(testContext(t), port))
}

// starting is a process that starts a server, which may be running or not be there yet.
type starting struct {
	*exec.Cmd
	input  io.Closer
	output *bufio.Reader
	temp   string // holds nothing but the server's directory
}

func startElsewhere(t *testing.T) starting {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	p := starting{Cmd: exec.CommandContext(testContext(t), self), temp: directory(t)}
	require.NoError(t, os.Chmod(p.temp, 0o711)) // for the user that a server of root's runs as
	p.Env = append(os.Environ(), startOne+"=1", "TMPDIR="+p.temp, "GORACE=atexit_sleep_ms=0")
	p.Stderr = os.Stderr
	p.input, err = p.StdinPipe()
	require.NoError(t, err)
	output, err := p.StdoutPipe()
	require.NoError(t, err)
	p.output = bufio.NewReader(output)
	require.NoError(t, p.Start())
	return p
}

// awaitNothing waits until the server's directory is gone.
func (p starting) awaitNothing(t *testing.T) {
	t.Helper()
	eventually(t, "the server's directory is gone", func() bool {
		left, err := os.ReadDir(p.temp)
		return err == nil && len(left) == 0
	})
}

// TestServerEndsWithTheProcessThatStartedIt kills that process, and has it end by itself.
func TestServerEndsWithTheProcessThatStartedIt(t *testing.T) {
	t.Parallel()
	for name, killed := range map[string]bool{"killed": true, "by itself": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := startElsewhere(t)
			line, err := p.output.ReadString('\n')
			require.NoError(t, err)
			dir, at, _ := strings.Cut(strings.TrimSpace(line), " ")
			require.DirExists(t, dir)
			db := open(t, at)
			execute(t, db, "SELECT 1")

			if killed {
				require.NoError(t, p.Process.Kill())
			} else {
				require.NoError(t, p.input.Close())
			}
			var exit *exec.ExitError
			require.Equal(t, killed, errors.As(p.Wait(), &exit))
			eventually(t, "the server is gone", func() bool { return db.PingContext(testContext(t)) != nil })
			p.awaitNothing(t)
		})
	}
}

func TestInitdbEndsWithTheProcessThatStartedIt(t *testing.T) {
	t.Parallel()
	p := startElsewhere(t)
	eventually(t, "initdb has begun", func() bool {
		found, err := filepath.Glob(filepath.Join(p.temp, "*", "data.new", "*"))
		return err == nil && len(found) > 0
	})
	require.NoError(t, p.Process.Kill())
	require.Error(t, p.Wait())
	p.awaitNothing(t)
}

// TestStartGivesUpInTheMiddle gives it too little time for initdb, and then time enough.
func TestStartGivesUpInTheMiddle(t *testing.T) {
	t.Parallel()
	dir := directory(t)
	ctx, cancel := context.WithTimeout(testContext(t), 50*time.Millisecond)
	defer cancel()
	_, err := Start(ctx, Config{Dir: dir, NoSync: true})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Equal(t, 1, query[int](t, open(t, start(t, Config{Dir: dir, NoSync: true}).URL("postgres")), "SELECT 1"))
}
