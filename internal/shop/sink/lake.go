package sink

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/evdemo/evdemo/internal/sqlitefile"
	"github.com/evdemo/evdemo/worker"
)

// DefaultCompactEvery is how often the lake looks for days that are over.
const DefaultCompactEvery = time.Minute

// What is in a lake's folder beside the files of the days.
const (
	lakeIndex   = "index.db"
	lakeLock    = "lock"
	jsonlEnding = ".jsonl"
)

const (
	dayLayout  = time.DateOnly
	dayPattern = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]"
	// maxOpenDays is how many files of days are kept open.
	maxOpenDays = 64
)

// The index of a lake. An event is in the file of a day if it is in the table, and is within the length of the day: both
// are committed together, after the file was brought to the disk.
const lakeSchema = `
CREATE TABLE events (source TEXT NOT NULL, id TEXT NOT NULL, PRIMARY KEY (source, id)) STRICT, WITHOUT ROWID;
CREATE TABLE days (
	day     TEXT PRIMARY KEY,
	length  INTEGER NOT NULL, -- bytes of its JSONL that count
	parquet INTEGER NOT NULL DEFAULT 0 -- those that its Parquet file was made of
) STRICT`

// LakeConfig says where a lake is. Dir is needed.
type LakeConfig struct {
	// Dir is the folder, which is made. It must be on a local disk.
	Dir string
	// CompactEvery is how often the lake looks for days that are over, to write their Parquet files. Default 1 min.
	CompactEvery time.Duration
	// Now is the clock that says which days are over. Default time.Now.
	Now func() time.Time
	// Logger receives what goes wrong in the background. Default: nothing is logged.
	Logger *slog.Logger
}

func (c LakeConfig) withDefaults() (LakeConfig, error) {
	c.CompactEvery = cmp.Or(c.CompactEvery, DefaultCompactEvery)
	c.Logger = cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
	if c.Now == nil {
		c.Now = time.Now
	}
	var errs []error
	if c.Dir == "" {
		errs = append(errs, errors.New("no folder"))
	}
	if c.CompactEvery < 0 {
		errs = append(errs, fmt.Errorf("compact every %v: want more than 0", c.CompactEvery))
	}
	return c, errors.Join(errs...)
}

// Lake keeps all events in a folder: a file YYYY-MM-DD.jsonl for each UTC day of the events' time, with an event in the
// CloudEvents JSON format on each line, and a YYYY-MM-DD.parquet that is made of it; see [Lake.Compact]. An event is in
// them once. The order within a day is that of arrival. An event without a time is in the day 0001-01-01.
//
// What a process that was killed has left behind is cut off when the lake is opened again: only what the index, an SQLite
// file in the folder, has committed counts. [ReadLake] reads no more than that.
type Lake struct {
	config LakeConfig
	lock   interface{ Unlock() error }
	index  *database
	lines  *group[*lakeLine]
	open   map[string]*lakeDay // the goroutine's that writes

	compacting sync.Mutex
	stop       context.CancelFunc
	background sync.WaitGroup
}

// lakeLine is an event that is to be written.
type lakeLine struct {
	key
	day       string
	text      []byte
	duplicate bool
}

// lakeDay is the open file of a day.
type lakeDay struct {
	file   *os.File
	length int64
}

// OpenLake opens a lake, and makes it where there is none. The error wraps [ErrInUse] where another process has it open,
// and [ErrDamaged] where a file has lost what was in it.
func OpenLake(ctx context.Context, config LakeConfig) (*Lake, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("open data lake: %w", err)
	}
	l := &Lake{config: config, open: map[string]*lakeDay{}}
	if err := l.start(ctx); err != nil {
		return nil, fmt.Errorf("open data lake %s: %w", config.Dir, err)
	}
	return l, nil
}

func (l *Lake) start(ctx context.Context) error {
	if err := os.MkdirAll(l.config.Dir, 0o755); err != nil {
		return err
	}
	lock, err := lockFile(filepath.Join(l.config.Dir, lakeLock))
	if err != nil {
		return err
	}
	l.lock = lock
	if err := l.recover(ctx); err != nil {
		if l.index != nil {
			err = errors.Join(err, l.index.Close())
		}
		return errors.Join(err, lock.Unlock())
	}
	l.lines = startGroup(ctx, l.write)
	ctx, l.stop = context.WithCancel(context.WithoutCancel(ctx))
	l.background.Go(func() { l.compactDaily(ctx) })
	return nil
}

// recover opens the index and cuts off what it does not know of.
func (l *Lake) recover(ctx context.Context) (err error) {
	files, err := filepath.Glob(filepath.Join(l.config.Dir, dayPattern+jsonlEnding))
	if err != nil {
		return err
	}
	_, err = os.Stat(filepath.Join(l.config.Dir, lakeIndex))
	if errors.Is(err, fs.ErrNotExist) && len(files) > 0 {
		return fmt.Errorf("%s is missing: %w", lakeIndex, ErrDamaged) // without it all of them would be cut off
	}
	if l.index, err = openDatabase(ctx, filepath.Join(l.config.Dir, lakeIndex), lakeSchema); err != nil {
		return err
	}
	days, err := lakeDays(ctx, l.index.DB)
	if err != nil {
		return sqlitefile.Explain(err)
	}
	for _, day := range days {
		files = slices.DeleteFunc(files, func(path string) bool { return path == l.path(day.day) })
		file, err := cutOff(l.path(day.day), day.length)
		if err != nil {
			return err
		}
		if err := file.Close(); err != nil {
			return err
		}
	}
	for _, path := range files { // nothing of them was ever committed
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return nil
}

// cutOff opens a file of a day and makes it as long as the index says.
func cutOff(path string, length int64) (*os.File, error) {
	flags := os.O_RDWR
	if length == 0 {
		flags |= os.O_CREATE
	}
	file, err := os.OpenFile(path, flags, 0o644)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", err, ErrDamaged)
	}
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	switch {
	case err != nil:
	case info.Size() < length:
		err = fmt.Errorf("%s has %d bytes of %d: %w", path, info.Size(), length, ErrDamaged)
	case info.Size() > length:
		err = file.Truncate(length)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

func (l *Lake) path(day string) string { return filepath.Join(l.config.Dir, day+jsonlEnding) }

// Name implements [Sink].
func (l *Lake) Name() string { return LakeName }

// Topics implements [Sink]: all, but for the commands'.
func (l *Lake) Topics() []string { return Topics(LakeName) }

// Handle implements [Sink].
func (l *Lake) Handle(ctx context.Context, d *worker.Delivery) error {
	if err := admit(d); err != nil {
		return err
	}
	text, err := d.Event.AppendJSON(nil)
	if err != nil {
		return worker.Permanent(err)
	}
	line := &lakeLine{key: keyOf(d), day: d.Event.Time.UTC().Format(dayLayout), text: append(text, '\n')}
	if err := l.lines.do(ctx, line); err != nil {
		return fmt.Errorf("data lake %s: %w", l.config.Dir, err)
	}
	if line.duplicate {
		return worker.ErrDuplicate
	}
	return nil
}

// write appends a batch. After an error nobody knows what is in the files: they are opened anew, and what the index does
// not have is cut off.
func (l *Lake) write(ctx context.Context, batch []*lakeLine) error {
	err := transact(ctx, l.index.DB, func(tx *sql.Tx) error { return l.add(ctx, tx, batch) })
	if err != nil || len(l.open) > maxOpenDays {
		_ = l.closeDays() // what counts in them is on the disk
	}
	return sqlitefile.Explain(err)
}

// add brings the lines of a batch that are new to the disk, and then tells the index how long the files are.
func (l *Lake) add(ctx context.Context, tx *sql.Tx, batch []*lakeLine) error {
	insert, err := tx.PrepareContext(ctx, `INSERT INTO events (source, id) VALUES (?, ?) ON CONFLICT DO NOTHING`)
	if err != nil {
		return err
	}
	defer insert.Close()
	fresh := map[string]*bytes.Buffer{}
	for _, line := range batch {
		result, err := insert.ExecContext(ctx, line.source, line.id)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n == 0 {
			line.duplicate = true
			continue
		}
		if fresh[line.day] == nil {
			fresh[line.day] = &bytes.Buffer{}
		}
		fresh[line.day].Write(line.text)
	}
	for _, day := range slices.Sorted(maps.Keys(fresh)) {
		length, err := l.append(ctx, tx, day, fresh[day].Bytes())
		if err != nil {
			return err
		}
		const grow = `INSERT INTO days (day, length) VALUES (?, ?) ON CONFLICT DO UPDATE SET length = excluded.length`
		if _, err := tx.ExecContext(ctx, grow, day, length); err != nil {
			return err
		}
	}
	return nil
}

// append writes behind what counts in the file of a day, and gives how long that is then.
func (l *Lake) append(ctx context.Context, tx *sql.Tx, day string, text []byte) (int64, error) {
	d, err := l.openDay(ctx, tx, day)
	if err != nil {
		return 0, err
	}
	if _, err := d.file.WriteAt(text, d.length); err != nil {
		return 0, err
	}
	if err := d.file.Sync(); err != nil {
		return 0, err
	}
	d.length += int64(len(text))
	return d.length, nil
}

func (l *Lake) openDay(ctx context.Context, tx *sql.Tx, day string) (*lakeDay, error) {
	if d := l.open[day]; d != nil {
		return d, nil
	}
	d := &lakeDay{}
	err := tx.QueryRowContext(ctx, `SELECT length FROM days WHERE day = ?`, day).Scan(&d.length)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, err
	}
	if d.file, err = cutOff(l.path(day), d.length); err != nil {
		return nil, err
	}
	l.open[day] = d
	if d.length == 0 {
		return d, syncDir(l.config.Dir)
	}
	return d, nil
}

func (l *Lake) closeDays() error {
	var errs []error
	for _, d := range l.open {
		errs = append(errs, d.file.Close())
	}
	clear(l.open)
	return errors.Join(errs...)
}

// syncDir brings to the disk which files are in a folder.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Close implements [Sink]. It writes the Parquet files that are not up to date, of today as well; where ctx ends before
// that, the next Compact or Close does.
func (l *Lake) Close(ctx context.Context) error {
	l.lines.close()
	l.stop()
	l.background.Wait()
	err := l.Compact(ctx)
	if ctx.Err() != nil {
		err = nil
	}
	if err = errors.Join(err, l.closeDays(), l.index.Close(), l.lock.Unlock()); err != nil {
		return fmt.Errorf("close data lake %s: %w", l.config.Dir, err)
	}
	return nil
}
