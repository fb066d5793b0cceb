package replay

// prefix follows items that end in any order, and knows up to which all have ended.
type prefix struct {
	next  int64         // where the source goes on after the last item of the prefix; -1 before the first
	mark  func() string // that item's; nil where it is not known
	first int           // the place of items[0]
	items []pending
}

type pending struct {
	next int64
	mark func() string
	done bool
}

func newPrefix(from Place) *prefix {
	return &prefix{next: from.Next, mark: func() string { return from.Mark }}
}

// add puts an item behind the others and gives its place.
func (p *prefix) add(next int64, mark func() string) int {
	p.items = append(p.items, pending{next: next, mark: mark})
	return p.first + len(p.items) - 1
}

// done notes that the item at a place has ended.
func (p *prefix) done(place int) {
	p.items[place-p.first].done = true
	ended := 0
	for ended < len(p.items) && p.items[ended].done {
		p.next, p.mark = p.items[ended].next, p.items[ended].mark
		ended++
	}
	p.items = p.items[ended:]
	p.first += ended
}

// place is where the source goes on after the prefix.
func (p *prefix) place() Place {
	place := Place{Next: p.next}
	if p.mark != nil {
		place.Mark = p.mark()
	}
	return place
}
