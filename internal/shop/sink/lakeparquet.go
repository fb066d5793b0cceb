package sink

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress/zstd"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/sqlitefile"
)

const (
	parquetEnding = ".parquet"
	// rowGroup is how many rows are in memory while a Parquet file is written.
	rowGroup = 20_000
	// rowChunk is how many rows are given to the library at a time.
	rowChunk = 256
)

// parquetRow is how a row is stored.
type parquetRow struct {
	ID            string `parquet:"id,delta"`
	Source        string `parquet:"source,dict"`
	Type          string `parquet:"type,dict"`
	Subject       string `parquet:"subject,delta"`
	Time          int64  `parquet:"time,timestamp(microsecond),delta"`
	CorrelationID string `parquet:"correlation_id,delta"`
	CausationID   string `parquet:"causation_id,delta"`
	Data          string `parquet:"data,json"`
}

// Compact writes a Parquet file for every day that has none, or one that lacks events: from the day's JSONL, with the
// columns id, source, type, subject, time (a timestamp in microseconds, UTC), correlation_id, causation_id and data (JSON).
// A file is there as a whole or not at all, and takes the place of an older one. The lake does so by itself for days that
// are over, once no event has come for them between two looks, and for all days when it is closed.
//
// It may be called at any time, also while events are handled.
func (l *Lake) Compact(ctx context.Context) error {
	if err := l.compact(ctx, func(lakeDayLength) bool { return true }); err != nil {
		return fmt.Errorf("write Parquet files: %w", err)
	}
	return nil
}

func (l *Lake) compact(ctx context.Context, wanted func(lakeDayLength) bool) error {
	l.compacting.Lock()
	defer l.compacting.Unlock()
	days, err := lakeDays(ctx, l.index.DB)
	if err != nil {
		return sqlitefile.Explain(err)
	}
	for _, day := range days {
		_, err := os.Stat(filepath.Join(l.config.Dir, day.day+parquetEnding))
		missing := errors.Is(err, fs.ErrNotExist)
		if day.length == day.parquet && !missing || !wanted(day) {
			continue
		}
		if err := l.writeParquet(ctx, day.day, day.length); err != nil {
			return fmt.Errorf("day %s: %w", day.day, err)
		}
		const done = `UPDATE days SET parquet = ? WHERE day = ?`
		if _, err := l.index.ExecContext(ctx, done, day.length, day.day); err != nil {
			return sqlitefile.Explain(err)
		}
	}
	return nil
}

// compactDaily writes the files of days that are over until ctx ends. A day for which events still come waits until there
// are none: a replay brings many for old days.
func (l *Lake) compactDaily(ctx context.Context) {
	seen := map[string]int64{}
	tick := time.NewTicker(l.config.CompactEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		today := l.config.Now().UTC().Format(dayLayout)
		err := l.compact(ctx, func(day lakeDayLength) bool {
			length, known := seen[day.day]
			seen[day.day] = day.length
			return known && length == day.length && day.day < today
		})
		if err != nil && ctx.Err() == nil {
			l.config.Logger.Warn("data lake: a Parquet file could not be written; trying again later",
				slog.String("folder", l.config.Dir), slog.Any("error", err))
		}
	}
}

// writeParquet makes a day's file of the first bytes of its JSONL.
func (l *Lake) writeParquet(ctx context.Context, day string, length int64) (err error) {
	final := filepath.Join(l.config.Dir, day+parquetEnding)
	temporary := final + ".tmp"
	file, err := os.Create(temporary)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(temporary)
		}
	}()
	if err := errors.Join(fillParquet(ctx, file, l.path(day), length), file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := os.Rename(temporary, final); err != nil {
		return err
	}
	return syncDir(l.config.Dir)
}

func fillParquet(ctx context.Context, file io.Writer, path string, length int64) error {
	w := parquet.NewGenericWriter[parquetRow](file, parquet.Compression(&zstd.Codec{}), parquet.MaxRowsPerRowGroup(rowGroup))
	rows := make([]parquetRow, 0, rowChunk)
	flush := func() error {
		_, err := w.Write(rows)
		rows = rows[:0]
		return errors.Join(err, ctx.Err())
	}
	for e, err := range readJSONL(path, length) {
		if err != nil {
			return err
		}
		rows = append(rows, parquetRow{
			ID: e.ID, Source: e.Source, Type: e.Type, Subject: e.Subject, Time: e.Time.UnixMicro(),
			CorrelationID: e.CorrelationID(), CausationID: e.CausationID(), Data: string(e.Data),
		})
		if len(rows) == rowChunk {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return errors.Join(flush(), w.Close())
}

// readJSONL gives the events in the first bytes of a file.
func readJSONL(path string, length int64) func(yield func(event.Event, error) bool) {
	return func(yield func(event.Event, error) bool) {
		file, err := os.Open(path)
		if err != nil {
			yield(event.Event{}, err)
			return
		}
		defer file.Close()
		lines := bufio.NewReaderSize(io.NewSectionReader(file, 0, length), 1<<16)
		for n := 1; ; n++ {
			line, err := lines.ReadBytes('\n')
			if errors.Is(err, io.EOF) && len(line) == 0 {
				return
			}
			var e event.Event
			if err == nil {
				err = e.UnmarshalJSON(line)
			}
			if err != nil {
				yield(event.Event{}, fmt.Errorf("%s, line %d: %w: %w", path, n, ErrDamaged, err))
				return
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}
