"""REPORT: the records of runs, sweeps and ablations become statistics, figures, tables and self-contained HTML pages.

Every page: `html.py` fills a template of `templates/`; `svg.py` makes figures inline, `curves.py`, `figures.py` and
`parallel.py` draw them; `strips.py` places values inside of tables; `headline.py` words numbers; `tables.py` writes
Markdown and CSV.

One run: `records.py` reads, `statistics.py` computes, `sections.py` gathers what each section shows, `page.py`.
Several: `compare.py` groups runs by seed, `seed_curves.py` draws the spread of seeds, `compare_page.py`.
A sweep: `study.py` reads, `sweep_tables.py`, `sweep_page.py`.
An ablation: `ablation.py` reads, `paired.py` computes, `ablation_table.py`, `ablation_page.py`.
"""
