package eventstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"reflect"

	"github.com/evdemo/evdemo/internal/sqlitefile"
)

// Finding is something wrong with a store.
type Finding struct {
	// Position and Stream say where, as far as that is known.
	Position int64
	Stream   string
	Problem  string
}

func (f Finding) String() string {
	switch {
	case f.Position > 0 && f.Stream != "":
		return fmt.Sprintf("position %d, stream %s: %s", f.Position, f.Stream, f.Problem)
	case f.Position > 0:
		return fmt.Sprintf("position %d: %s", f.Position, f.Problem)
	case f.Stream != "":
		return fmt.Sprintf("stream %s: %s", f.Stream, f.Problem)
	default:
		return f.Problem
	}
}

// Verification is what [Store.Verify] has looked at.
type Verification struct {
	Events      int64 // of the log, each of which was read
	Streams     int64
	Snapshots   int64 // whose checksum and place were checked
	Compared    int64 // of those, with the state that the events give
	Checkpoints int64
	Findings    int64
}

// VerifyOption is an option of [Store.Verify].
type VerifyOption func(*verifying)

// snapshotCheck compares the snapshots of a fold with the state that the events give.
type snapshotCheck struct {
	fold    string
	version int
	check   func(ctx context.Context, s *Store, p *snapshot) (problem string, err error)
}

// Progress has a function called with how many events were read, every thousand or so.
func Progress(read func(events int64)) VerifyOption {
	return func(v *verifying) { v.progress = read }
}

// CheckSnapshots has the snapshots of a fold compared: with what the fold makes of the events, by reflect.DeepEqual.
func CheckSnapshots[S any](fold Fold[S]) VerifyOption {
	c := snapshotCheck{fold: fold.Name, version: fold.Version, check: func(ctx context.Context, s *Store, p *snapshot) (string, error) {
		kept, undecoded := open(p, fold)
		if undecoded != nil {
			return "cannot be decoded: " + undecoded.Error(), nil //nolint:nilerr // a finding
		}
		replayed, err := Load(ctx, s, p.stream, fold, AtVersion(p.version), WithoutSnapshots())
		if err != nil {
			return "", err
		}
		// Both have been through the encoding: a state need not come out of it as it went in.
		encoded, err := fold.encode(replayed.Value)
		if err != nil {
			return "", err
		}
		again, err := fold.decode(encoded)
		if err != nil {
			return "", err
		}
		if !reflect.DeepEqual(kept, again) {
			return "does not equal the state that the events give", nil
		}
		return "", nil
	}}
	return func(v *verifying) { v.checks = append(v.checks, c) }
}

// Verify walks the whole store while others may write, up to the last event that there is when it begins: positions are
// dense and their times in order; every event can be read and is valid; versions are dense in every stream and in the
// order of the positions; snapshots are whole, at an event that is there, and equal to a replay as far as [CheckSnapshots]
// gives their fold; checkpoints are within the log. It calls found with whatever is not so; an error means that it could
// not go on.
func (s *Store) Verify(ctx context.Context, found func(Finding), options ...VerifyOption) (Verification, error) {
	v := verifying{store: s, progress: func(int64) {}}
	for _, option := range options {
		option(&v)
	}
	v.found = func(f Finding) {
		v.Findings++
		found(f)
	}
	problems, err := s.database.check(ctx)
	for _, problem := range problems {
		v.found(Finding{Problem: problem})
	}
	err = v.orDamage(err)
	for _, step := range []func(context.Context) error{v.head, v.log, v.streams, v.orders, v.snapshots, v.ahead, v.checkpoints} {
		if err == nil {
			err = v.orDamage(step(ctx))
		}
	}
	return v.Verification, s.database.explain(err)
}

// orDamage makes a finding of an error that says that the file is damaged: what can be read is looked at all the same.
func (v *verifying) orDamage(err error) error {
	if sqlitefile.Code(err) != sqlitefile.Corrupt {
		return err
	}
	v.found(Finding{Problem: err.Error()})
	return nil
}

type verifying struct {
	Verification

	store    *Store
	checks   []snapshotCheck
	progress func(events int64)
	found    func(Finding)
	end      int64 // the last position that is looked at
}

// maxFindings is how many findings of one kind are told one by one.
const maxFindings = 1000

// each runs a query and calls row for each of its rows. What that finds is reported once the query is over: whoever
// is told may take their time, and read the store.
func (v *verifying) each(ctx context.Context, query string, row func(scanner) (*Finding, error), args ...any) error {
	found, more, err := v.gather(ctx, query, row, args...)
	for _, f := range found {
		v.found(f)
	}
	if more > 0 {
		v.found(Finding{Problem: fmt.Sprintf("and %d more like the last", more)})
	}
	return err
}

func (v *verifying) gather(ctx context.Context, query string, row func(scanner) (*Finding, error), args ...any) (found []Finding, more int, err error) {
	rows, err := v.store.database.reads().QueryContext(ctx, query, args...)
	if err != nil {
		return nil, 0, err
	}
	defer rows.Close()
	for rows.Next() {
		switch f, err := row(rows); {
		case err != nil:
			return found, more, err
		case f == nil:
		case len(found) < maxFindings:
			found = append(found, *f)
		default:
			more++
		}
	}
	return found, more, rows.Err()
}

// head looks for the end of the log.
func (v *verifying) head(ctx context.Context) (err error) {
	v.end, err = v.store.Head(ctx)
	return err
}

// log reads every event.
func (v *verifying) log(ctx context.Context) error {
	last, recordedAt := int64(0), int64(0)
	for low := int64(0); low < v.end; {
		r := reading{store: v.store, low: low, high: v.end, size: fullPage, holes: true}
		if _, err := r.next(ctx); err != nil {
			return err
		}
		for i := range r.page {
			p := &r.page[i]
			if p.position != last+1 {
				v.found(Finding{Position: p.position, Stream: p.stream, Problem: fmt.Sprintf("follows position %d: events between are missing", last)})
			}
			if p.recordedAt < recordedAt {
				v.found(Finding{Position: p.position, Stream: p.stream, Problem: "was appended before the event before it, by its time"})
			}
			if problem := p.problem(); problem != "" {
				v.found(Finding{Position: p.position, Stream: p.stream, Problem: problem})
			}
			last, recordedAt = p.position, p.recordedAt
			v.Events++
		}
		v.progress(v.Events)
		if low = last; len(r.page) == 0 {
			break
		}
	}
	return nil
}

// problem is what is wrong with an event in itself.
func (p *placed) problem() string {
	r, err := p.recorded()
	if err != nil {
		damaged, _ := errors.AsType[*DamagedError](err)
		return "cannot be read: " + damaged.Err.Error()
	}
	again, err := newRow(r.Event)
	switch {
	case err != nil:
		return "is not valid: " + err.Error()
	case !again.same(&p.row) || again.correlation != p.correlation:
		return "has columns that contradict each other"
	case checkStream(p.stream) != nil:
		return checkStream(p.stream).Error()
	default:
		return ""
	}
}

// streams counts the streams, and finds those with a version missing or too many.
func (v *verifying) streams(ctx context.Context) error {
	const query = `SELECT stream, count(*), min(version), max(version) FROM evdemo_store_events WHERE position <= $1 GROUP BY stream`
	return v.each(ctx, query, func(row scanner) (*Finding, error) {
		var stream string
		var count, first, last int64
		if err := row.Scan(&stream, &count, &first, &last); err != nil {
			return nil, err
		}
		v.Streams++
		if first == 1 && last == count {
			return nil, nil //nolint:nilnil // nothing is wrong
		}
		return &Finding{Stream: stream, Problem: fmt.Sprintf("has %d events with versions from %d to %d", count, first, last)}, nil
	}, v.end)
}

// orders finds versions that are not in the order of the positions.
func (v *verifying) orders(ctx context.Context) error {
	const query = `SELECT stream, version, position FROM (
			SELECT stream, version, position, lag(position) OVER (PARTITION BY stream ORDER BY version) AS before
			FROM evdemo_store_events WHERE position <= $1) AS o
		WHERE before > position`
	return v.each(ctx, query, func(row scanner) (*Finding, error) {
		var f Finding
		var version int64
		err := row.Scan(&f.Stream, &version, &f.Position)
		f.Problem = fmt.Sprintf("version %d is before version %d", version, version-1)
		return &f, err
	}, v.end)
}

// snapshots checks each snapshot. They are read one by one: a check reads the store itself.
func (v *verifying) snapshots(ctx context.Context) error {
	const query = `SELECT ` + snapshotColumns + `, EXISTS (SELECT 1 FROM evdemo_store_events AS e
			WHERE e.stream = s.stream AND e.version = s.version AND e.position = s.position AND e.recorded_at = s.recorded_at)
		FROM evdemo_store_snapshots AS s WHERE (stream, fold, fold_version, version) > ($1, $2, $3, $4) AND position <= $5
		ORDER BY stream, fold, fold_version, version LIMIT 1`
	for p := (snapshot{foldVersion: -1 << 31}); ; {
		var placed bool
		row := v.store.database.reads().QueryRowContext(ctx, query, p.stream, p.fold, p.foldVersion, p.version, v.end)
		p = snapshot{}
		err := row.Scan(&p.stream, &p.fold, &p.foldVersion, &p.version, &p.position, &p.recordedAt, &p.checksum, &p.state, &placed)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := v.snapshot(ctx, &p, placed); err != nil {
			return err
		}
	}
}

func (v *verifying) snapshot(ctx context.Context, p *snapshot, placed bool) error {
	v.Snapshots++
	problem := ""
	switch {
	case p.sum() != p.checksum:
		problem = errChecksum.Error()
	case !placed:
		problem = "there is no such event"
	default:
		for _, c := range v.checks {
			if c.fold != p.fold || c.version != p.foldVersion {
				continue
			}
			var err error
			if problem, err = c.check(ctx, v.store, p); err != nil {
				problem = "cannot be compared: " + err.Error()
			}
			v.Compared++
		}
	}
	if problem != "" {
		v.found(Finding{Stream: p.stream, Problem: fmt.Sprintf("snapshot of fold %s (version %d) at version %d: %s", p.fold, p.foldVersion, p.version, problem)})
	}
	return ctx.Err()
}

// ahead finds snapshots of events that are not there yet.
func (v *verifying) ahead(ctx context.Context) error {
	const query = `SELECT stream, position FROM evdemo_store_snapshots
		WHERE position > (SELECT coalesce(max(position), 0) FROM evdemo_store_events)`
	return v.each(ctx, query, func(row scanner) (*Finding, error) {
		f := Finding{Problem: "a snapshot has this position, which is beyond the log"}
		return &f, row.Scan(&f.Stream, &f.Position)
	})
}

func (v *verifying) checkpoints(ctx context.Context) error {
	const query = `SELECT name, position, (SELECT coalesce(max(position), 0) FROM evdemo_store_events) FROM evdemo_store_checkpoints`
	return v.each(ctx, query, func(row scanner) (*Finding, error) {
		var name string
		var position, head int64
		if err := row.Scan(&name, &position, &head); err != nil {
			return nil, err
		}
		if v.Checkpoints++; position <= head {
			return nil, nil //nolint:nilnil // nothing is wrong
		}
		return &Finding{Problem: fmt.Sprintf("checkpoint %s is at position %d, beyond the last, %d", name, position, head)}, nil
	})
}
