"""sqlite3: bulk insert, index, join, aggregate."""
import real

SCRIPT = """
create table t(id integer primary key, name text, weight real);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 100000)
  insert into t select i, 'name ' || (i * 7919 % 100003), i * 0.5 from n;
create index by_name on t(name);
select count(*), min(name), max(name), sum(weight) from t;
select a.id, b.name from t a join t b on a.name = b.name order by a.name limit 5;
select substr(name, 1, 7), count(*) from t group by 1 order by 2 desc, 1 limit 7;
"""


class Sqlite(real.RealProgram):
    NEEDS = ("sqlite3",)

    def test_bulk_insert(self):
        reports = self.both(lambda launcher: launcher.run(["sqlite3", ":memory:", SCRIPT]))
        self.assert_sensible(self.of(reports, "sqlite3")[0], allocations=10000)
