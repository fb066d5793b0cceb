package eventstore_test

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/postgrestest"
)

// numbers is a projection whose table is the application's to make, as migrations do.
func numbers() eventstore.Projection {
	return eventstore.Projection{
		Name: "numbers", Version: 1, CatchUp: true,
		Reset: func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `DELETE FROM numbers`)
			return err
		},
		Apply: func(ctx context.Context, tx *sql.Tx, r eventstore.Recorded) error {
			_, err := tx.ExecContext(ctx, `INSERT INTO numbers VALUES ($1)`, r.Position)
			return err
		},
	}
}

// projected runs it as an application does that has just been started, and gives the read model.
func projected(t *testing.T, s *eventstore.Store) (positions []int64) {
	t.Helper()
	execute(t, s.DB(), `CREATE TABLE IF NOT EXISTS numbers (position bigint)`)
	require.NoError(t, s.Project(t.Context(), numbers()))
	rows, err := s.DB().QueryContext(t.Context(), `SELECT position FROM numbers ORDER BY position`)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var position int64
		require.NoError(t, rows.Scan(&position))
		positions = append(positions, position)
	}
	require.NoError(t, rows.Err())
	return positions
}

// On a copy, whatever that is copied from and to, a read model has every event exactly once as well.
func TestProjectionOnACopy(t *testing.T) {
	t.Parallel()
	want := []int64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
	for from, fresh := range databases() {
		t.Run(from, func(t *testing.T) {
			t.Parallel()
			s := open(t, eventstore.Config{DB: fresh(t)})
			fill(t, s, "a", 10)
			require.Equal(t, want, projected(t, s))
			used := postgrestest.URL(t) // a projection has run there before there were events
			require.Empty(t, projected(t, open(t, eventstore.Config{DB: used})))
			for _, target := range []string{file(t), postgrestest.URL(t), used} {
				_, err := s.Backup(t.Context(), target)
				require.NoError(t, err)
				restored := open(t, eventstore.Config{DB: target, Existing: true})
				require.Equal(t, want, projected(t, restored))
				fill(t, restored, "a", 1)
				require.Equal(t, append(want[:10:10], 11), projected(t, restored))
			}
		})
	}
}

// A projection ends with its ctx though there is something to note and nobody to note it with.
func TestProjectionEndsWithoutItsServer(t *testing.T) {
	t.Parallel()
	network, db := through(t, postgrestest.URL(t))
	s := open(t, eventstore.Config{DB: db, RetryFor: time.Minute})
	execute(t, s.DB(), `CREATE TABLE numbers (position bigint)`)
	p := numbers()
	p.CatchUp, p.Types = false, []string{"rare"}
	begun := make(chan struct{})
	p.Apply = func(context.Context, *sql.Tx, eventstore.Recorded) error {
		close(begun)
		return nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- s.Project(ctx, p) }()
	rare := events(t, 1)
	rare[0].Type = "rare"
	_, err := s.Append(t.Context(), eventstore.StreamWrite{Stream: "a", Events: rare})
	require.NoError(t, err)
	<-begun
	fill(t, s, "a", 20)
	<-time.After(200 * time.Millisecond) // it passes them, and leaves that to be noted later
	network.cut()
	cancel()
	require.ErrorIs(t, within(t, ended), context.Canceled)
}

// Where the database has another isolation level by default everything works that begins its own transactions.
func TestDefaultIsolation(t *testing.T) {
	t.Parallel()
	for _, level := range []string{"repeatable read", "serializable"} {
		t.Run(level, func(t *testing.T) {
			t.Parallel()
			db := postgrestest.URL(t)
			execute(t, connect(t, db), `DO $$ BEGIN
				EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation = %L', current_database(), '`+level+`'); END $$`)
			from := open(t, eventstore.Config{DB: file(t)})
			fill(t, from, "a", 3)
			_, err := from.Backup(t.Context(), db)
			require.NoError(t, err)
			s := open(t, eventstore.Config{DB: db, Existing: true, RetryFor: -1})
			require.NoError(t, one(t.Context(), s, "a"))
			p := numbers()
			p.Types = []string{"step", "part"}
			p.Apply = func(ctx context.Context, tx *sql.Tx, r eventstore.Recorded) error {
				answer := someEvents(1)
				answer[0].Type = "answer"
				_, err := s.AppendTx(ctx, tx, eventstore.StreamWrite{Stream: "answers", Expect: eventstore.Exactly(r.Position - 1), Events: answer})
				return err
			}
			execute(t, connect(t, db), `CREATE TABLE numbers (position bigint)`)
			require.NoError(t, s.Project(t.Context(), p))
			version, err := s.Version(t.Context(), "answers")
			require.NoError(t, err)
			require.Equal(t, int64(4), version)

			other := open(t, eventstore.Config{DB: db, Existing: true, RetryFor: -1}) // each sees what the other has appended
			var crowd errgroup.Group
			for i := range 8 {
				crowd.Go(func() error {
					for range 10 {
						if err := one(t.Context(), []*eventstore.Store{s, other}[i%2], "b"); err != nil {
							return err
						}
					}
					return nil
				})
			}
			require.NoError(t, crowd.Wait())
			require.Equal(t, int64(8+80), sound(t, s).Events)
		})
	}
}
