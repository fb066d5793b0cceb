package scenario

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"time"

	"github.com/evdemo/evdemo/internal/stage"
)

// accountTable keeps accounts as most programs do: a row for each, which is overwritten.
type accountTable struct{ db *sql.DB }

func openAccountTable(ctx context.Context, s *stage.Stage) (*accountTable, error) {
	file := filepath.Join(s.Dir, "accounts.db")
	db, err := sql.Open("sqlite", "file:"+file)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", file, err)
	}
	s.OnClose(func(context.Context) error { return db.Close() })
	_, err = db.ExecContext(ctx, `CREATE TABLE balances (account TEXT PRIMARY KEY, balance BIGINT NOT NULL, changed_by TEXT NOT NULL)`)
	return &accountTable{db}, err
}

func (a *accountTable) write(ctx context.Context, changes []accountChange) (at time.Time, err error) {
	tx, err := a.db.BeginTx(ctx, nil)
	if err != nil {
		return at, err
	}
	defer func() { _ = tx.Rollback() }()
	for _, c := range changes {
		const change = `INSERT INTO balances VALUES ($1, $2, $3) ON CONFLICT (account) DO UPDATE SET balance = balance + $2, changed_by = $3`
		if _, err := tx.ExecContext(ctx, change, c.account, c.amount, c.who); err != nil {
			return at, err
		}
	}
	return time.Now(), tx.Commit()
}

// balance can only be the one that there is now, whatever was asked.
func (a *accountTable) balance(ctx context.Context, account string, _ int) (balance int, err error) {
	err = a.db.QueryRowContext(ctx, `SELECT balance FROM balances WHERE account = $1`, account).Scan(&balance)
	return balance, err
}

func (a *accountTable) balanceAt(ctx context.Context, account string, _ time.Time) (int, error) {
	return a.balance(ctx, account, 0)
}

// who can only be who was last.
func (a *accountTable) who(ctx context.Context, account string, _ int) (name string, err error) {
	err = a.db.QueryRowContext(ctx, `SELECT changed_by FROM balances WHERE account = $1`, account).Scan(&name)
	return name, err
}

func (a *accountTable) forget(ctx context.Context) error { return forgetBalances(ctx, a.db) }

func (a *accountTable) balances(ctx context.Context) (map[string]int, error) {
	return readBalances(ctx, a.db)
}

// forgetBalances is an UPDATE whose WHERE was forgotten.
func forgetBalances(ctx context.Context, db *sql.DB) error {
	_, err := db.ExecContext(ctx, `UPDATE balances SET balance = 0`)
	return err
}

func readBalances(ctx context.Context, db *sql.DB) (map[string]int, error) {
	rows, err := db.QueryContext(ctx, `SELECT account, balance FROM balances`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	balances := map[string]int{}
	for rows.Next() {
		var account string
		var balance int
		if err := rows.Scan(&account, &balance); err != nil {
			return nil, err
		}
		balances[account] = balance
	}
	return balances, rows.Err()
}
