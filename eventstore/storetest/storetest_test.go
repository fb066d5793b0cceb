package storetest_test

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/evdemo/evdemo/eventstore/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// faults are stores that each break a promise, by SQL that their database runs on its own, with the check that must find it.
func faults() map[string]struct{ statement, caught string } {
	event := func(when, then string) string {
		return `CREATE TRIGGER fault AFTER INSERT ON evdemo_store_events WHEN ` + when + ` BEGIN ` + then + `; END`
	}
	change := func(what string) string {
		return event(`true`, `UPDATE evdemo_store_events SET `+what+` WHERE position = new.position`)
	}
	return map[string]struct{ statement, caught string }{
		"loses every fifth event": {
			event(`new.position % 5 = 0`, `DELETE FROM evdemo_store_events WHERE position = new.position`), "an append tells where its events are",
		},
		"cuts data":              {change(`data = substr(data, 2)`), "an append tells where its events are"},
		"rounds times":           {change(`time = substr(time, 1, 19) || 'Z'`), "an append tells where its events are"},
		"forgets correlations":   {change(`correlation = NULL`), "a flow is its events and the one that began it"},
		"has times that go back": {change(`recorded_at = recorded_at - 1000 * position`), "a time gives its position"},
		"exchanges streams":      {change(`stream = 'b'`), "several writes to one stream follow each other"},
		"skips positions": {
			event(`new.position % 5 = 0`, `UPDATE evdemo_store_events SET position = position + 1 WHERE position = new.position`),
			"followers of 64 writers see every event once and in order",
		},
		"loses snapshots": {
			`CREATE TRIGGER fault AFTER INSERT ON evdemo_store_snapshots BEGIN DELETE FROM evdemo_store_snapshots; END`,
			"a load begins with the newest snapshot that can be used",
		},
		"has wrong snapshots": {
			`CREATE TRIGGER fault AFTER INSERT ON evdemo_store_snapshots BEGIN UPDATE evdemo_store_snapshots SET state = '{}'; END`,
			"a sound store is found sound while others write",
		},
		"does not move checkpoints": {
			`CREATE TRIGGER fault AFTER UPDATE ON evdemo_store_checkpoints WHEN new.position > old.position BEGIN
				UPDATE evdemo_store_checkpoints SET position = old.position WHERE name = new.name; END`,
			"a read model has every event once whatever fails",
		},
		"does not give leases up": {
			`CREATE TRIGGER fault AFTER UPDATE ON evdemo_store_leases WHEN new.owner = '' BEGIN
				UPDATE evdemo_store_leases SET owner = old.owner WHERE name = new.name; END`,
			"a lease that is given up is taken soon",
		},
		"gives leases to anyone": {
			`CREATE TRIGGER fault AFTER INSERT ON evdemo_store_leases BEGIN UPDATE evdemo_store_leases SET owner = ''; END`,
			"a lease is kept for as long as it takes",
		},
	}
}

// Every fault is found by the check that is there for it: the suite can fail.
func TestTheSuiteFindsFaults(t *testing.T) {
	t.Parallel()
	for name, fault := range faults() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			checks := storetest.Checks()
			i := slices.IndexFunc(checks, func(c storetest.Check) bool { return c.Name == fault.caught })
			require.GreaterOrEqual(t, i, 0, "no such check")
			require.NotEmpty(t, failure(t, checks[i], fault.statement), "the fault is not found")
			require.Empty(t, failure(t, checks[i], `SELECT 1`), "the check fails without the fault")
		})
	}
}

// failure is what a check says to a store with a fault, nothing if it finds none.
func failure(t *testing.T, check storetest.Check, fault string) string {
	t.Helper()
	r := &recorder{TB: t}
	done := make(chan struct{})
	go func() { // Fatalf ends the goroutine
		defer close(done)
		c := storetest.New(r, func(tb testing.TB) string {
			tb.Helper()
			return filepath.Join(tb.TempDir(), "store.db")
		})
		db, err := sql.Open("sqlite", "file:"+c.DB)
		c.Cleanup(func() { _ = db.Close() })
		for _, statement := range []string{`DROP TRIGGER evdemo_store_events_stay`, `DROP TRIGGER evdemo_store_events_remain`, fault} {
			if err == nil {
				_, err = db.ExecContext(context.WithoutCancel(t.Context()), statement)
			}
		}
		if err != nil {
			t.Error(err)
			return
		}
		check.Do(c)
	}()
	<-done
	return r.message
}

// recorder is a test whose failure is looked at.
type recorder struct {
	testing.TB
	message string
}

func (r *recorder) Helper() {}

func (r *recorder) Errorf(format string, args ...any) { r.message += fmt.Sprintf(format, args...) }

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}
