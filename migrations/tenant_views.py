"""The schema `tenant`: the analysts' views over again, with the rights of who asks, so that a tenant's role sees its own rows.

Analysts' views run with the rights of the tables' owner, whom no policy holds; these run with the caller's
(`security_invoker`), whom the tables' policies do. They are made anew after every migration, from what the analysts' views have
become: a view that is added to those is a tenant's as well.
"""

from graphlib import TopologicalSorter

from sqlalchemy import Connection, text

# Of no one tenant: what was done to experiments, what was learned from everyone's feedback, and what nobody was answered.
NOT_FOR_TENANTS = frozenset(
    {"experiment_history", "weights_history", "shadow_answers", "shadow_agreement", "policy_changes"}
)

_DEFINITIONS = text("""
    SELECT relname, pg_get_viewdef(oid), obj_description(oid, 'pg_class') FROM pg_class
    WHERE relkind = 'v' AND relnamespace = 'public'::regnamespace AND has_table_privilege('analyst', oid, 'SELECT')
""")
# Views that read sums of all tenants' requests: here, what the sums are counted from is read instead.
_COUNTED = text("""
    SELECT left(relname, -length('_counted')), pg_get_viewdef(oid) FROM pg_class
    WHERE relkind = 'v' AND relnamespace = to_regnamespace('rolled') AND relname LIKE '%\\_counted'
""")
_NEEDS = text("""
    SELECT DISTINCT v.relname, needed.relname FROM pg_depend d
    JOIN pg_rewrite r ON r.oid = d.objid AND d.classid = 'pg_rewrite'::regclass
    JOIN pg_class v ON v.oid = r.ev_class
    JOIN pg_class needed ON needed.oid = d.refobjid AND d.refclassid = 'pg_class'::regclass
    WHERE v.relkind = 'v' AND needed.relkind = 'v' AND v.oid <> needed.oid AND v.relnamespace = 'public'::regnamespace
""")


def drop(connection: Connection) -> None:
    """Drops them, so that the tables below may change."""
    connection.execute(text("DROP SCHEMA IF EXISTS tenant CASCADE"))


def make(connection: Connection) -> None:
    """Makes them, where the database knows tenants' roles."""
    if not connection.execute(text("SELECT to_regprocedure('public.own_tenants()') IS NOT NULL")).scalar_one():
        return
    connection.execute(text("SET LOCAL search_path = public"))
    found = {name: (query, comment) for name, query, comment in connection.execute(_DEFINITIONS)}
    for name, query in connection.execute(_COUNTED).all():
        found[name] = (query, found[name][1])
    needs: dict[str, set[str]] = {name: set() for name in found}
    for name, needed in connection.execute(_NEEDS):
        if name in needs and needed in needs:
            needs[name].add(needed)
    connection.execute(text("CREATE SCHEMA tenant"))
    connection.execute(text("GRANT USAGE ON SCHEMA tenant TO tenant"))
    # What a view stands on is found in the schema first.
    connection.execute(text("SET LOCAL search_path = tenant, public"))
    for name in TopologicalSorter(needs).static_order():
        if name in NOT_FOR_TENANTS:
            continue
        query, comment = found[name]
        connection.exec_driver_sql(f"CREATE VIEW tenant.{name} WITH (security_invoker = true) AS {query}")
        connection.exec_driver_sql(
            f"COMMENT ON VIEW tenant.{name} IS '{(comment or '').replace(chr(39), chr(39) * 2)}'"
        )
        connection.exec_driver_sql(f"GRANT SELECT ON tenant.{name} TO tenant")
    connection.execute(text("SET LOCAL search_path = DEFAULT"))
