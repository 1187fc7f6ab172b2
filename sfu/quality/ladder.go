package quality

import "time"

// Ladder is a level that goes up when windows ask for more often enough in a row, and down a step when they are calm for long
// enough. In between it stays, so noise around a limit changes nothing.
type Ladder struct {
	// Up is how many windows in a row must ask for more than there is, and Down how many in a row must be calm.
	Up, Down int

	level, asked, least, calm int
}

// Level is where it stands; 0 is the bottom.
func (l *Ladder) Level() int { return l.level }

// Step is a window that asks for a level, and says whether it is so good that a step down is in order. It returns the level
// now. To a level that is more than a step up it goes at once.
func (l *Ladder) Step(ask int, calm bool) int {
	if ask > l.level {
		if l.asked == 0 || ask < l.least {
			l.least = ask
		}
		l.asked++
	} else {
		l.asked = 0
	}
	if calm && l.level > 0 {
		l.calm++
	} else {
		l.calm = 0
	}
	switch {
	case l.asked > 0 && l.asked >= l.Up:
		l.level, l.asked, l.calm = l.least, 0, 0
	case l.calm > 0 && l.calm >= l.Down:
		l.level, l.calm = l.level-1, 0
	}
	return l.level
}

// Begin goes from the bottom to the first level without waiting; what asked for more still counts.
func (l *Ladder) Begin() int {
	l.level = max(l.level, 1)
	return l.level
}

// Reset puts it at a level.
func (l *Ladder) Reset(level int) { l.level, l.asked, l.calm = level, 0, 0 }

// Class is a quality in a word.
type Class string

// All classes, from the best to the worst.
const (
	Excellent Class = "excellent"
	Good      Class = "good"
	Fair      Class = "fair"
	Poor      Class = "poor"
	Lost      Class = "lost" // neither RTP nor RTCP for five seconds
)

var classes = [...]struct {
	class Class
	from  float64
}{{Excellent, 4.2}, {Good, 3.8}, {Fair, 3.1}, {Poor, 0}}

// classMargin is how far beyond a limit the score must be for the class to change.
const classMargin = 0.1

// Scores follow what becomes worse at once, and what becomes better slowly: people remember the bad moment.
const followDown, followUp = 0.8, 0.4

// lostAfter is how long nothing is heard of somebody who is lost.
const lostAfter = 5 * time.Second

// Grader makes classes of scores. Its zero value has seen nothing.
type Grader struct {
	score float64
	class Class
}

// Score is the smoothed one; 0 before the first.
func (g *Grader) Score() float64 { return g.score }

// Class is the latest one, "" before the first.
func (g *Grader) Class() Class { return g.class }

// Grade takes the score of a window, from 1 to 4.5, and says which class it is now and whether that is another one. unheard is
// for how long nothing of any kind has come.
func (g *Grader) Grade(mos float64, unheard time.Duration) (class Class, changed bool) {
	before := g.class
	if unheard >= lostAfter {
		g.score, g.class = 1, Lost
		return g.class, before != Lost
	}
	switch {
	case before == "" || before == Lost:
		g.score = mos
	case mos < g.score:
		g.score += followDown * (mos - g.score)
	default:
		g.score += followUp * (mos - g.score)
	}
	g.class = g.graded(before)
	return g.class, g.class != before
}

// graded keeps the class while the score is within the margin of its limits.
func (g *Grader) graded(before Class) Class {
	above := 5.0
	for _, c := range classes {
		if c.class == before && g.score >= c.from-classMargin && g.score < above+classMargin {
			return before
		}
		above = c.from
	}
	for _, c := range classes {
		if g.score >= c.from {
			return c.class
		}
	}
	return Poor
}
