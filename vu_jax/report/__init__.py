"""REPORT: the records of one training run become statistics, figures and one self-contained HTML page.

`records.py` reads the run directory, `statistics.py` computes on what was read, `headline.py` words the
numbers that matter most, `figures.py` draws (`svg.py` makes it inline), `sections.py` gathers what each
section shows, and `page.py` assembles `report.html` from `page.html.jinja`.
"""
