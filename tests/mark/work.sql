create table t(a integer primary key, b text);
with recursive c(x) as (select 1 union all select x + 1 from c where x < 20000) insert into t select x, hex(x * 7919) from c;
create index i on t(b);
select count(*), sum(a), max(b) from t where b like '3%';
select b, count(*) over (partition by a % 5 order by b) from t limit 5;
select json_group_array(a) from (select a from t limit 5);
