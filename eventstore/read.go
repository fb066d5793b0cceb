package eventstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Pages begin small, for the many reads that want little, and grow. What one page holds in memory is about
// pageBytes at most, and one event.
const (
	firstPage = 16
	fullPage  = 1024
	pageBytes = 4 << 20
)

// Read reads events page by page. The iteration ends with what was committed when its first page had been read,
// however much is appended meanwhile. It holds no connection while its body runs, so the body may append and read.
//
// An error is the last thing that an iteration gives, with a zero Recorded: ctx's, one that wraps [ErrUnavailable] when a
// PostgreSQL server was away for longer than Config.RetryFor, a *[DamagedError], or what Config.Upcast returned. An
// iteration that ends without one has given everything.
func (s *Store) Read(ctx context.Context, q Query) iter.Seq2[Recorded, error] {
	return func(yield func(Recorded, error) bool) {
		q := q // a second iteration has a time of its own
		err := q.validate()
		if err == nil && !q.AsOf.IsZero() {
			var empty bool
			if empty, err = s.resolveTime(ctx, &q); err == nil && empty {
				return
			}
		}
		if err == nil {
			r := reading{store: s, query: q, low: q.After, high: q.Through, size: firstPage, left: q.Limit}
			err = r.run(ctx, yield)
		}
		if err != nil && !errors.Is(err, errStopped) {
			yield(Recorded{}, err)
		}
	}
}

// errStopped says that whoever iterates has left the loop.
var errStopped = errors.New("iteration stopped")

// reading is one iteration. It has read everything but the positions above low and, where high is not 0, up to
// and with high.
type reading struct {
	store     *Store
	query     Query
	low, high int64
	size      int
	left      int  // of the limit
	over      bool // there is nothing left to read
	holes     bool // are for the caller to find
	page      []placed
}

func (r *reading) run(ctx context.Context, yield func(Recorded, error) bool) error {
	for first := true; ; first = false {
		if err := ctx.Err(); err != nil {
			return err
		}
		var more bool
		err := retry(ctx, r.store.database, r.store.config.RetryFor, func() (err error) {
			more, err = r.next(ctx)
			return err
		})
		if err != nil {
			return err
		}
		if more && first && r.high == 0 {
			if r.high, err = r.store.Head(ctx); err != nil {
				return err
			}
		}
		if err := r.give(ctx, yield); err != nil || !more || r.over {
			return err
		}
	}
}

// next reads the next page. More tells whether another may follow.
func (r *reading) next(ctx context.Context) (more bool, err error) {
	limit := r.size
	if r.left > 0 {
		limit = min(limit, r.left)
	}
	text, args := r.text(limit)
	// Later pages have sizes of their own, which are in the text.
	rows, err := r.store.database.query(ctx, limit == firstPage, text, args...)
	if err != nil {
		return false, err
	}
	defer rows.Close()
	r.page = r.page[:0]
	bytes := 0
	for rows.Next() {
		var p placed
		if err := p.scan(rows); err != nil {
			return false, err
		}
		if r.beyond(p.position) {
			return false, nil
		}
		if before := r.low + int64(len(r.page)); r.dense() && p.position != before+1 {
			return false, &DamagedError{Position: before + 1, Err: errMissing}
		}
		r.page = append(r.page, p)
		if bytes += p.size(); bytes > pageBytes {
			break
		}
	}
	if err := rows.Err(); err != nil {
		return false, err
	}
	more = len(r.page) == limit || bytes > pageBytes
	r.resize(bytes)
	return more, nil
}

// dense tells whether every position must come.
func (r *reading) dense() bool {
	q := &r.query
	return !r.holes && q.Stream == "" && len(q.Types) == 0 && q.Subject == "" && q.Correlation == "" && !q.Backwards
}

// beyond tells whether an event is behind the limit at which the reading ends.
func (r *reading) beyond(position int64) bool {
	if r.query.Backwards {
		return position <= r.low
	}
	return r.high > 0 && position > r.high
}

// resize makes the next page's size from what this one had.
func (r *reading) resize(bytes int) {
	r.size = min(4*r.size, fullPage)
	if n := len(r.page); n > 0 && bytes > 0 {
		r.size = max(1, min(r.size, pageBytes/(bytes/n+1)))
	}
}

func (r *reading) text(limit int) (text string, args []any) {
	conditions := r.query.conditions()
	// Only the limit at which the page begins: with both, PostgreSQL may well sort the whole rest of the log for
	// each page.
	if !r.query.Backwards && r.low > 0 {
		conditions = append(conditions, where("position > ?", r.low))
	}
	if r.query.Backwards && r.high > 0 {
		conditions = append(conditions, where("position <= ?", r.high))
	}
	order, direction := "position", ""
	if r.query.Stream != "" {
		order = "version" // the same, and the order of the index
	}
	if r.query.Backwards {
		direction = " DESC"
	}
	end := direction + " LIMIT " + strconv.Itoa(limit)
	var s statementText
	branches := r.query.branches()
	for i, branch := range branches {
		if len(branches) > 1 {
			s.add([]string{"", " UNION ALL "}[min(i, 1)] + "SELECT * FROM (")
		}
		s.add("SELECT " + columns + " FROM evdemo_store_events")
		s.where(append(slices.Clone(conditions), branch...)...)
		s.add(" ORDER BY " + order + end)
		if len(branches) > 1 {
			s.add(") AS b" + strconv.Itoa(i))
		}
	}
	if len(branches) > 1 {
		s.add(" ORDER BY 1" + end)
	}
	return s.text.String(), s.args
}

// give hands the page's events on, and moves the limits of what is left to read.
func (r *reading) give(ctx context.Context, yield func(Recorded, error) bool) error {
	for i := range r.page {
		p := &r.page[i]
		event, err := p.recorded()
		if err == nil && r.store.config.Upcast != nil {
			if event.Event, err = r.store.config.Upcast(event.Event); err != nil {
				err = fmt.Errorf("upcast event at position %d: %w", p.position, err)
			}
		}
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if !yield(event, nil) {
			return errStopped
		}
		r.passed(p)
	}
	return nil
}

// passed moves on behind an event.
func (r *reading) passed(p *placed) {
	switch {
	case r.query.Stream != "" && r.query.Backwards:
		r.query.ToVersion = max(p.version-1, 1)
		r.high = p.position - 1
	case r.query.Backwards:
		r.high = p.position - 1
	case r.query.Stream != "":
		r.query.FromVersion = p.version + 1
	default:
		r.low = p.position
	}
	r.left--
	r.over = r.query.Limit > 0 && r.left == 0 || r.query.Backwards && r.high <= r.low
}

// Head is the position of the last event, 0 for none.
func (s *Store) Head(ctx context.Context) (position int64, err error) {
	err = retry(ctx, s.database, s.config.RetryFor, func() error {
		var recordedAt int64
		err := s.database.reads().QueryRowContext(ctx, string(selectHead)).Scan(&position, &recordedAt)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		return err
	})
	return position, err
}

// Version is a stream's version, 0 for no events.
func (s *Store) Version(ctx context.Context, stream string) (version int64, err error) {
	err = retry(ctx, s.database, s.config.RetryFor, func() error {
		return s.database.reads().QueryRowContext(ctx, string(selectVersion), stream).Scan(&version)
	})
	return version, err
}

// PositionAt is the position of the last event that had been appended at a time, 0 for none.
func (s *Store) PositionAt(ctx context.Context, moment time.Time) (position int64, err error) {
	high, err := s.Head(ctx)
	if err != nil {
		return 0, err
	}
	// Times never go back, so what was appended until then is all up to one position.
	for low := int64(0); low < high; {
		middle := low + (high-low+1)/2
		recordedAt, err := s.recordedAt(ctx, middle)
		if err != nil {
			return 0, err
		}
		if recordedAt <= moment.UnixMicro() {
			low, position = middle, middle
		} else {
			high = middle - 1
		}
	}
	return position, nil
}

func (s *Store) recordedAt(ctx context.Context, position int64) (recordedAt int64, err error) {
	err = retry(ctx, s.database, s.config.RetryFor, func() error {
		const query = `SELECT recorded_at FROM evdemo_store_events WHERE position = $1`
		err := s.database.reads().QueryRowContext(ctx, query, position).Scan(&recordedAt)
		if errors.Is(err, sql.ErrNoRows) {
			return &DamagedError{Position: position, Err: errMissing}
		}
		return err
	})
	return recordedAt, err
}

// resolveTime puts the query's time as a position.
func (s *Store) resolveTime(ctx context.Context, q *Query) (empty bool, err error) {
	position, err := s.PositionAt(ctx, q.AsOf)
	if q.Through == 0 || position < q.Through {
		q.Through = position
	}
	return position == 0, err
}

// StreamInfo is what [Store.Streams] tells of a stream.
type StreamInfo struct {
	Stream  string
	Version int64     // of its last event
	First   time.Time // when its first event was appended
	Last    time.Time // and its last
}

// Streams lists the streams whose names begin with a prefix, after a name, in the order of their names byte by byte.
// It costs a few steps for each stream, however many events there are.
func (s *Store) Streams(ctx context.Context, prefix, after string) iter.Seq2[StreamInfo, error] {
	return func(yield func(StreamInfo, error) bool) {
		for at, first := max(prefix, after), prefix != "" && prefix > after; ; first = false {
			info, err := s.nextStream(ctx, at, first)
			switch {
			case errors.Is(err, sql.ErrNoRows), err == nil && !strings.HasPrefix(info.Stream, prefix):
				return
			case err != nil:
				yield(StreamInfo{}, err)
				return
			}
			if at = info.Stream; !yield(info, nil) {
				return
			}
		}
	}
}

// nextStream gives the next stream behind a name, or that very one too.
func (s *Store) nextStream(ctx context.Context, at string, equal bool) (info StreamInfo, err error) {
	than := ">"
	if equal {
		than = ">="
	}
	query := `SELECT n.stream, (SELECT max(version) FROM evdemo_store_events AS e WHERE e.stream = n.stream),
			(SELECT recorded_at FROM evdemo_store_events AS e WHERE e.stream = n.stream ORDER BY version LIMIT 1),
			(SELECT recorded_at FROM evdemo_store_events AS e WHERE e.stream = n.stream ORDER BY version DESC LIMIT 1)
		FROM (SELECT stream FROM evdemo_store_events WHERE stream ` + than + ` $1 ORDER BY stream LIMIT 1) AS n`
	err = retry(ctx, s.database, s.config.RetryFor, func() error {
		var first, last int64
		err := s.database.reads().QueryRowContext(ctx, query, at).Scan(&info.Stream, &info.Version, &first, &last)
		info.First, info.Last = micros(first), micros(last)
		return err
	})
	return info, err
}
