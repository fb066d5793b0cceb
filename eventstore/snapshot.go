package eventstore

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"log/slog"
	"time"
)

// snapshot is a state as the table has it.
type snapshot struct {
	stream, fold         string
	foldVersion          int
	version, position    int64
	recordedAt, checksum int64
	state                []byte
}

// sum is the checksum of everything else.
func (p *snapshot) sum() int64 {
	var b bytes.Buffer
	for _, text := range []string{p.stream, p.fold} {
		b.Write(binary.AppendUvarint(nil, uint64(len(text))))
		b.WriteString(text)
	}
	for _, n := range []int64{int64(p.foldVersion), p.version, p.position, p.recordedAt} {
		b.Write(binary.AppendVarint(nil, n))
	}
	b.Write(p.state)
	return int64(crc32.Checksum(b.Bytes(), crc32.MakeTable(crc32.Castagnoli)))
}

const snapshotColumns = `stream, fold, fold_version, version, position, recorded_at, checksum, state`

func (p *snapshot) scan(from scanner) error {
	return from.Scan(&p.stream, &p.fold, &p.foldVersion, &p.version, &p.position, &p.recordedAt, &p.checksum, &p.state)
}

// restore gives the state of the newest snapshot that can be used.
func restore[S any](ctx context.Context, s *Store, stream string, fold Fold[S], l *loading) (State[S], error) {
	for below := int64(-1); ; {
		p, err := s.newestSnapshot(ctx, stream, fold.Name, fold.Version, l, below)
		if err != nil || p == nil {
			return State[S]{}, err
		}
		value, err := open(p, fold)
		if err == nil {
			return State[S]{
				Value: value, Version: p.version, Position: p.position, RecordedAt: micros(p.recordedAt), Snapshot: p.version,
			}, nil
		}
		s.config.Logger.Warn("event store: a snapshot cannot be used", slog.String("stream", stream),
			slog.String("fold", fold.Name), slog.Int64("version", p.version), slog.Any("error", err))
		below = p.version
	}
}

var errChecksum = errors.New("its checksum is wrong")

func open[S any](p *snapshot, fold Fold[S]) (value S, err error) {
	if p.sum() != p.checksum {
		return value, errChecksum
	}
	return fold.decode(p.state)
}

// newestSnapshot gives the newest snapshot that a load may begin with, nil where there is none.
func (s *Store) newestSnapshot(ctx context.Context, stream, fold string, foldVersion int, l *loading, below int64) (*snapshot, error) {
	conditions := []condition{where("stream = ?", stream), where("fold = ?", fold), where("fold_version = ?", foldVersion)}
	if l.version != nil {
		conditions = append(conditions, where("version <= ?", *l.version))
	}
	if below >= 0 {
		conditions = append(conditions, where("version < ?", below))
	}
	if l.moment != nil {
		conditions = append(conditions, where("recorded_at <= ?", l.moment.UnixMicro()))
	}
	var q statementText
	q.add(`SELECT ` + snapshotColumns + ` FROM evdemo_store_snapshots`)
	q.where(conditions...)
	q.add(` ORDER BY version DESC LIMIT 1`)
	var p snapshot
	err := retry(ctx, s.database, s.config.RetryFor, func() error {
		return p.scan(s.database.reads().QueryRowContext(ctx, q.text.String(), q.args...))
	})
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil //nolint:nilnil // there is none, and that is no error
	}
	return &p, err
}

// snapshotTime is how long a load waits for its snapshot to be written, which can be done without.
const snapshotTime = 2 * time.Second

// save writes a snapshot of a state.
func save[S any](ctx context.Context, s *Store, stream string, fold Fold[S], state *State[S]) error {
	encoded, err := fold.encode(state.Value)
	if err != nil {
		return err
	}
	p := snapshot{
		stream: stream, fold: fold.Name, foldVersion: fold.Version, version: state.Version, position: state.Position,
		recordedAt: state.RecordedAt.UnixMicro(), state: encoded,
	}
	const insert = `INSERT INTO evdemo_store_snapshots (` + snapshotColumns + `) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (stream, fold, fold_version, version) DO UPDATE SET checksum = excluded.checksum, state = excluded.state,
		position = excluded.position, recorded_at = excluded.recorded_at`
	ctx, cancel := context.WithTimeout(ctx, snapshotTime)
	defer cancel()
	return s.transact(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, insert, p.stream, p.fold, p.foldVersion, p.version, p.position, p.recordedAt, p.sum(), p.state)
		return err
	})
}

// DropSnapshots removes the snapshots of a fold whose version is not this one, and tells how many there were. What they
// hold can always be made again from the log.
func (s *Store) DropSnapshots(ctx context.Context, fold string, except int) (dropped int64, err error) {
	err = s.transactAgain(ctx, func(tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx, `DELETE FROM evdemo_store_snapshots WHERE fold = $1 AND fold_version <> $2`, fold, except)
		if err != nil {
			return err
		}
		dropped, err = result.RowsAffected()
		return err
	})
	return dropped, err
}
