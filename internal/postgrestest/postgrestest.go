// Package postgrestest is what tests with a real PostgreSQL need: empty databases of their own in a
// cluster that the tests of a package share, and private servers to kill and restart.
//
// A package whose tests use [URL] has it in its TestMain:
//
//	func TestMain(m *testing.M) { goleak.VerifyTestMain(postgrestest.Main(m)) }
package postgrestest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/evdemo/evdemo/internal/localpostgres"
)

// ServerEnv names the environment variable that holds the URL of a PostgreSQL server to use instead of
// starting one, with a user that may create databases there.
const ServerEnv = "EVDEMO_TEST_POSTGRES"

// What may take how long on a machine on which many tests run at once.
const (
	startPatience     = 3 * time.Minute
	stopPatience      = 30 * time.Second
	statementPatience = 60 * time.Second
)

// shared is the cluster of the tests of this binary.
var shared cluster //nolint:gochecknoglobals // tests that know nothing of each other share it

// cluster is a server that is started when it is first needed.
type cluster struct {
	mu     sync.Mutex
	open   bool // between the beginning and the end of Main's Run
	server *localpostgres.Server
	err    error // why it did not start; it is not tried again
}

// Runner runs tests, as *testing.M does.
type Runner interface{ Run() int }

// Main is a Runner of the same tests. When they have ended, it stops the cluster that they have used, and
// no process, goroutine or file is left of it. Where it cannot be stopped, the exit code is not 0.
func Main(m Runner) Runner { return runner{m, &shared} }

type runner struct {
	tests   Runner
	cluster *cluster
}

func (r runner) Run() int {
	r.cluster.begin()
	code := r.tests.Run()
	if err := r.cluster.end(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return max(code, 1)
	}
	return code
}

func (c *cluster) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open = true
}

func (c *cluster) end() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open = false
	if c.server == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopPatience)
	defer cancel()
	return c.server.Stop(ctx)
}

// url is that of the database "postgres". The server is started the first time.
func (c *cluster) url(ctx context.Context) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.open {
		return "", errors.New("nothing would stop it after these tests: have postgrestest.Main in the package's TestMain")
	}
	if c.server == nil && c.err == nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), startPatience)
		defer cancel()
		c.server, c.err = localpostgres.Start(ctx, localpostgres.Config{NoSync: true})
	}
	if c.err != nil {
		return "", c.err
	}
	return c.server.URL("postgres"), nil
}

// URL is that of a new, empty database, which is dropped with the test, whatever is connected to it then.
// The database is in a cluster that is started at the first call, or in the server that
// EVDEMO_TEST_POSTGRES names. In the cluster, its commits survive a crash of the server, but not of the
// machine.
//
// Where there is no PostgreSQL, the test fails and names the command that installs it.
func URL(tb testing.TB) string {
	tb.Helper()
	database, drop, err := Database(tb.Context())
	if err != nil {
		tb.Fatalf("this test needs PostgreSQL: %v", err)
	}
	tb.Cleanup(func() {
		if err := drop(context.WithoutCancel(tb.Context())); err != nil {
			tb.Error(err)
		}
	})
	return database
}

// Database is [URL] for an Example, which has no testing.TB: the caller drops the database.
func Database(ctx context.Context) (database string, drop func(context.Context) error, err error) {
	server := os.Getenv(ServerEnv)
	if server == "" {
		if server, err = shared.url(ctx); err != nil {
			return "", nil, err
		}
	}
	return databaseAt(ctx, server)
}

func databaseAt(ctx context.Context, server string) (database string, drop func(context.Context) error, err error) {
	at, err := url.Parse(server)
	if err != nil || (at.Scheme != "postgres" && at.Scheme != "postgresql") {
		return "", nil, fmt.Errorf("%s: want postgres://USER:PASSWORD@HOST:PORT/DATABASE", ServerEnv) // its value may have a password in it
	}
	name := "evdemo_test_" + strings.ToLower(rand.Text())
	at.Path = "/" + name
	drop = func(ctx context.Context) error { return execute(ctx, server, "DROP DATABASE "+name+" WITH (FORCE)") }
	// Unlike template1, template0 is always empty.
	return at.String(), drop, execute(ctx, server, "CREATE DATABASE "+name+" TEMPLATE template0")
}

// execute runs one SQL statement, outside of a transaction.
func execute(ctx context.Context, server, statement string) error {
	ctx, cancel := context.WithTimeout(ctx, statementPatience)
	defer cancel()
	conn, err := pgx.Connect(ctx, server)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, statement); err != nil {
		return fmt.Errorf("%s: %w", statement, err)
	}
	return nil
}

// Server starts a private server for a test that stops, kills or restarts it, and removes it with the
// test. It takes a second or two, so tests that can do with one server are subtests of one test. Options
// change its configuration before it is started; without one, its commits survive Kill but not the
// machine's crash. Where the test fails, the end of the server's log is printed.
func Server(tb testing.TB, options ...func(*localpostgres.Config)) *localpostgres.Server {
	tb.Helper()
	// A directory of its own outlasts Stop, so that the server can be started again.
	dir, err := os.MkdirTemp("", "evdemo-postgrestest-") //nolint:usetesting // a server of root's runs as another user, who cannot reach tb.TempDir()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			tb.Error(err)
		}
	})
	config := localpostgres.Config{Dir: dir, NoSync: true}
	for _, option := range options {
		option(&config)
	}
	ctx, cancel := context.WithTimeout(tb.Context(), startPatience)
	defer cancel()
	server, err := localpostgres.Start(ctx, config)
	if err != nil {
		tb.Fatalf("this test needs PostgreSQL: %v", err)
	}
	tb.Cleanup(func() {
		if tb.Failed() {
			log, _ := os.ReadFile(server.LogFile())
			tb.Logf("the log of PostgreSQL at %s ends with:\n%s", server.URL("postgres"), log[max(0, len(log)-4000):])
		}
		if err := server.Kill(); err != nil {
			tb.Error(err)
		}
	})
	return server
}
