package replay

// prefix follows items that end in any order, and knows up to which all have ended.
type prefix struct {
	next  int64 // where the source goes on after the last item of the prefix; -1 before the first
	first int   // the place of items[0]
	items []pending
}

type pending struct {
	next int64
	done bool
}

func newPrefix(next int64) *prefix { return &prefix{next: next} }

// add puts an item behind the others and gives its place.
func (p *prefix) add(next int64) int {
	p.items = append(p.items, pending{next: next})
	return p.first + len(p.items) - 1
}

// done notes that the item at a place has ended.
func (p *prefix) done(place int) {
	p.items[place-p.first].done = true
	ended := 0
	for ended < len(p.items) && p.items[ended].done {
		p.next = p.items[ended].next
		ended++
	}
	p.items = p.items[ended:]
	p.first += ended
}
