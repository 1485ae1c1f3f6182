// How the search weighs what it finds: guides, references and introductions before sources, results and notes.
var Scorer = {
  score: ([page, , , , score]) => (/^(docs\/(howto|ref|intro|faq)|README|demo)/.test(page) ? score + 30 : score),
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
