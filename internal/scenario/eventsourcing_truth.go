package scenario

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/evdemo/evdemo/internal/stage"
)

const (
	accountBusy    = "account-busy" // which has four of five changes
	accountOthers  = 19
	accountBatch   = 100
	accountBatches = 60
)

// accountChange is a change of an account that somebody made.
type accountChange struct {
	account, who string
	amount       int
}

// accountKeeper keeps accounts in a database, in whatever way.
type accountKeeper interface {
	// write makes changes, all or none, and tells when.
	write(ctx context.Context, changes []accountChange) (at time.Time, err error)
	// balance is that behind the nth change of an account, balanceAt that at a time, and who is who made the nth change; as well
	// as the keeper knows.
	balance(ctx context.Context, account string, n int) (int, error)
	balanceAt(ctx context.Context, account string, at time.Time) (int, error)
	who(ctx context.Context, account string, n int) (string, error)
	// forget is what somebody does to the table of balances by mistake.
	forget(ctx context.Context) error
	// balances are all of that table.
	balances(ctx context.Context) (map[string]int, error)
}

// accountTruth is what the scenario itself has written, in plain lists: what each keeper's answers are compared with.
type accountTruth struct {
	random  *rand.Rand
	changes map[string][]accountChange
	moments []accountMoment
}

// accountMoment is when a batch was written, and the balances after it.
type accountMoment struct {
	at       time.Time
	balances map[string]int
}

// write makes a batch of changes up, and has them kept.
func (t *accountTruth) write(ctx context.Context, keeper accountKeeper) error {
	batch := make([]accountChange, accountBatch)
	for i := range batch {
		account := accountBusy
		if t.random.IntN(5) == 0 {
			account = fmt.Sprintf("account-%02d", 1+t.random.IntN(accountOthers))
		}
		who := []string{"anna", "ben", "cleo", "dora", "emil"}[t.random.IntN(5)]
		batch[i] = accountChange{account: account, who: who, amount: t.random.IntN(2000) - 900}
		t.changes[account] = append(t.changes[account], batch[i])
	}
	at, err := keeper.write(ctx, batch)
	if err != nil {
		return err
	}
	t.moments = append(t.moments, accountMoment{at: at, balances: t.now()})
	return nil
}

// balance adds up the first n changes of an account.
func (t *accountTruth) balance(account string, n int) (sum int) {
	for _, c := range t.changes[account][:n] {
		sum += c.amount
	}
	return sum
}

// now is what all balances are.
func (t *accountTruth) now() map[string]int {
	balances := map[string]int{}
	for account, changes := range t.changes {
		balances[account] = t.balance(account, len(changes))
	}
	return balances
}

// look measures how many accounts have another balance in the keeper's table than they should.
func (t *accountTruth) look(ctx context.Context, s *stage.Stage, keeper accountKeeper, figure string) error {
	balances, err := keeper.balances(ctx)
	wrong := 0
	for account, balance := range t.now() {
		if is, there := balances[account]; !there || is != balance {
			wrong++
		}
	}
	s.Count(figure, wrong)
	return err
}

// some is an account, and the number of one of its changes but for the last.
func (t *accountTruth) some() (account string, n int) {
	for {
		account = fmt.Sprintf("account-%02d", 1+t.random.IntN(accountOthers))
		if changes := len(t.changes[account]); changes > 1 {
			return account, 1 + t.random.IntN(changes-1)
		}
	}
}

// ask asks a keeper about the past, and measures how many answers are wrong.
func (t *accountTruth) ask(ctx context.Context, s *stage.Stage, keeper accountKeeper) error {
	wrong := map[string]int{"balances": 0, "moments": 0, "who": 0}
	for range accountQuestions {
		account, n := t.some()
		moment := t.moments[t.random.IntN(len(t.moments)-1)]
		balance, noBalance := keeper.balance(ctx, account, n)
		then, noMoment := keeper.balanceAt(ctx, accountBusy, moment.at)
		name, noName := keeper.who(ctx, account, n)
		if err := errors.Join(noBalance, noMoment, noName); err != nil {
			return fmt.Errorf("ask about change %d of %s: %w", n, account, err)
		}
		for question, right := range map[string]bool{
			"balances": balance == t.balance(account, n), "moments": then == moment.balances[accountBusy], "who": name == t.changes[account][n-1].who,
		} {
			if !right {
				wrong[question]++
			}
		}
	}
	for question, n := range wrong {
		s.Count(question, n)
	}
	return nil
}
