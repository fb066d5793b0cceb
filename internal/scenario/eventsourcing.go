package scenario

import (
	"context"
	"errors"

	"github.com/evdemo/evdemo/internal/stage"
)

const (
	accountQuestions = 20             // of each kind
	accountBusy      = "account-busy" // which has four of five changes
	accountOthers    = 19
	accountBatch     = 100
	accountBatches   = 60
)

// eventSourcing: what can be said of the past, and made again, where events are kept, and where only the latest state is.
func eventSourcing() stage.Scenario {
	return stage.Scenario{
		Name:  "event-sourcing",
		Needs: stage.Nothing,
		Title: "Bank accounts as rows that are overwritten, and as events that are kept",
		Lesson: "A row in a table says what is so now; how it came to be so, and who made it so, was overwritten. Where each change is kept as an event instead, " +
			"every earlier state can be made again by going through the events up to that moment, and so can each table that was made from them. " +
			"Going through all events takes longer the more there are, which is why a snapshot, a state that was noted down earlier, is what one begins with.",
		Broken: "a row for each account, which each change overwrites.",
		Fixed:  "an event for each change, in the event store of evdemo; a table of balances is made from the events.",
		Play:   playAccounts,
		Parts:  map[string]stage.Part{"project": accountPart},
		Figures: []stage.Figure{
			{Key: "balances", Label: "wrong answers, of 20: what was the balance after that change?"},
			{Key: "moments", Label: "wrong answers, of 20: what was the balance at that time?"},
			{Key: "who", Label: "wrong answers, of 20: who made that change?"},
			{Key: "killed", Label: "wrong accounts, of 20, after the program that makes the table was killed"},
			{Key: "damaged", Label: "wrong accounts, of 20, after somebody damaged the table"},
			{Key: "repaired", Label: "wrong accounts, of 20, after it was repaired as well as possible"},
			{Key: "all", Label: "loading an account of some 4,800 changes, from all events", Unit: "ms"},
			{Key: "snapshot", Label: "loading it from a snapshot, and the events since", Unit: "ms"},
			{Key: "loads", Label: "loads with a wrong balance"},
		},
		Claims: []stage.Claim{
			{
				Text: "Broken: most questions about the past are answered wrong, since the table only knows what is so now.", By: []string{"balances", "moments", "who"},
				Holds: func(was, _ stage.Figures) bool {
					return was.Of("balances") > accountQuestions/2 && was.Of("moments") > accountQuestions/2 && was.Of("who") > accountQuestions/4
				},
			},
			{
				Text: "Broken: a table that was damaged stays wrong, since its backup does not know what came after it.", By: []string{"repaired"},
				Holds: func(was, _ stage.Figures) bool { return was.Of("repaired") > 0 },
			},
			{
				Text: "Fixed: every answer is right, by a list that the scenario has kept itself.", By: []string{"balances", "moments", "who"},
				Holds: func(_, now stage.Figures) bool {
					return now.Of("balances") == 0 && now.Of("moments") == 0 && now.Of("who") == 0
				},
			},
			{
				Text: "Fixed: each event counts once in the table, though the program that makes it was killed halfway.", By: []string{"killed"},
				Holds: func(_, now stage.Figures) bool { return now.Of("killed") == 0 },
			},
			{
				Text: "Fixed: the damaged table is made again from the events, and right.", By: []string{"damaged", "repaired"},
				Holds: func(_, now stage.Figures) bool { return now.Of("damaged") > 0 && now.Of("repaired") == 0 },
			},
			{
				Text: "Fixed: from a snapshot an account is loaded in less than a third of the time, with the same balance.", By: []string{"all", "snapshot", "loads"},
				Holds: func(_, now stage.Figures) bool { return now.Of("snapshot") < now.Of("all")/3 && now.Of("loads") == 0 },
			},
		},
		Try: []string{
			"evdemo store append a-1 --db a.db --type price.set --data '{\"price\": 12}' --extension authid=anna    # and again, with another price",
			"evdemo store history a-1 --db a.db; evdemo store state a-1 --db a.db --at-version 1",
		},
	}
}

func playAccounts(ctx context.Context, s *stage.Stage) error {
	accounts, err := openAccounts(ctx, s)
	if err != nil {
		return err
	}
	s.Say("Five people make %d changes to %d accounts. The scenario notes down each of them in a list of its own, to compare with.", accountBatches*accountBatch, accountOthers+1)
	for batch := range accountBatches {
		if err := accounts.change(ctx); err != nil {
			return err
		}
		if batch == accountBatches/2 && !s.Fixed() {
			s.Say("Halfway somebody makes a backup of the table.")
			if _, err := accounts.db.ExecContext(ctx, `CREATE TABLE backup AS SELECT * FROM balances`); err != nil {
				return err
			}
		}
	}
	if s.Fixed() {
		if err := accounts.killProjection(ctx); err != nil {
			return err
		}
	}
	s.Say("Asking %d questions: what was the balance then, and who changed it?", 3*accountQuestions)
	if err := accounts.ask(ctx); err != nil {
		return err
	}
	s.Say("Somebody sends UPDATE balances SET balance = 0, and has forgotten for which account.")
	if _, err := accounts.db.ExecContext(ctx, `UPDATE balances SET balance = 0`); err != nil {
		return err
	}
	if err := accounts.compare(ctx, "damaged"); err != nil {
		return err
	}
	if !s.Fixed() {
		s.Say("The backup is all there is to repair it with.")
		const restore = `UPDATE balances SET balance = COALESCE((SELECT balance FROM backup WHERE backup.account = balances.account), 0)`
		_, err := accounts.db.ExecContext(ctx, restore)
		return errors.Join(err, accounts.compare(ctx, "repaired"))
	}
	s.Say("The table is thrown away, and made again from the events.")
	if err := accounts.store.Project(ctx, accountTable(2, nil)); err != nil {
		return err
	}
	if err := accounts.compare(ctx, "repaired"); err != nil {
		return err
	}
	s.Say("Loading the account with the most changes, from all events, and from a snapshot and what has come since.")
	return accounts.measureLoads(ctx)
}
