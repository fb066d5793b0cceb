package sink

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/sqlitefile"
)

// lakeDayLength is a day as the index has it.
type lakeDayLength struct {
	day             string
	length, parquet int64
}

func lakeDays(ctx context.Context, db *sql.DB) (days []lakeDayLength, err error) {
	rows, err := db.QueryContext(ctx, `SELECT day, length, parquet FROM days ORDER BY day`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var d lakeDayLength
		if err := rows.Scan(&d.day, &d.length, &d.parquet); err != nil {
			return nil, err
		}
		days = append(days, d)
	}
	return days, rows.Err()
}

// ReadLake gives all events in the JSONL files of a lake, day by day, and within a day in the order of their arrival. It
// may be called while a process has the lake open: then it gives what was committed when it began. After an error there
// is nothing more. ctx bounds the look at the index.
func ReadLake(ctx context.Context, dir string) iter.Seq2[event.Event, error] {
	return func(yield func(event.Event, error) bool) {
		days, err := lengthsOf(ctx, dir)
		if err != nil {
			yield(event.Event{}, fmt.Errorf("read data lake %s: %w", dir, sqlitefile.Explain(err)))
			return
		}
		for _, day := range days {
			for e, err := range readJSONL(filepath.Join(dir, day.day+jsonlEnding), day.length) {
				if !yield(e, err) || err != nil {
					return
				}
			}
		}
	}
}

// lengthsOf asks the index of a lake, which may be open elsewhere.
func lengthsOf(ctx context.Context, dir string) ([]lakeDayLength, error) {
	path := filepath.Join(dir, lakeIndex)
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite", dataSource(path, "ro"))
	if err != nil {
		return nil, err
	}
	defer db.Close()
	return lakeDays(ctx, db)
}

// Row is an event as it is in a Parquet file. Its time has microseconds.
type Row struct {
	ID, Source, Type, Subject  string
	Time                       time.Time
	CorrelationID, CausationID string
	// Data is JSON; empty where the event has none.
	Data string
}

// ReadParquet gives all rows of the Parquet files of a lake, in the order of [ReadLake]. What has come since the last
// [Lake.Compact] is not in them. After an error there is nothing more.
func ReadParquet(dir string) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		paths, err := filepath.Glob(filepath.Join(dir, dayPattern+parquetEnding)) // sorted
		if err != nil {
			yield(Row{}, err)
			return
		}
		for _, path := range paths {
			for row, err := range readParquetFile(path) {
				if !yield(row, err) || err != nil {
					return
				}
			}
		}
	}
}

func readParquetFile(path string) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		err := eachRow(path, func(row parquetRow) bool {
			return yield(Row{
				ID: row.ID, Source: row.Source, Type: row.Type, Subject: row.Subject, Time: time.UnixMicro(row.Time).UTC(),
				CorrelationID: row.CorrelationID, CausationID: row.CausationID, Data: row.Data,
			}, nil)
		})
		if err != nil {
			yield(Row{}, fmt.Errorf("%s: %w: %w", path, ErrDamaged, err))
		}
	}
}

// eachRow calls visit for the rows of a file until it does not want more.
func eachRow(path string, visit func(parquetRow) bool) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	opened, err := parquet.OpenFile(file, info.Size()) // NewGenericReader alone would panic
	if err != nil {
		return err
	}
	reader := parquet.NewGenericReader[parquetRow](opened)
	defer reader.Close()
	for rows := make([]parquetRow, rowChunk); ; {
		n, err := reader.Read(rows)
		for _, row := range rows[:n] {
			if !visit(row) {
				return nil
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
