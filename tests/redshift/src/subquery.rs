//! Correlated subqueries that Redshift cannot take apart, and refuses, where PostgreSQL would answer:
//! <https://docs.aws.amazon.com/redshift/latest/dg/r_correlated_subqueries.html>. That an OR is among them is not
//! documented there; it is what people meet. A column is known to be another block's by the table before its dot.

use sqlparser::ast::{
    BinaryOperator, Expr, FromTable, FunctionArg, FunctionArgExpr, FunctionArguments, JoinConstraint,
    JoinOperator, ObjectName, Query, Select, SelectItem, SetExpr, Statement, TableFactor, TableWithJoins,
};

use crate::errors::SqlError;

const REFUSED: &str = "This type of correlated subquery pattern is not supported yet";

/// Refuses a statement with such a subquery.
pub(crate) fn check(statement: &Statement) -> Result<(), SqlError> {
    let fits = match statement {
        Statement::Query(query) => of_query(query, &mut Vec::new()),
        Statement::Insert(insert) => {
            insert.source.as_ref().is_none_or(|query| of_query(query, &mut Vec::new()))
        }
        Statement::Delete(delete) => {
            let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &delete.from;
            let tables = from.iter().chain(delete.using.iter().flatten());
            let mut scopes = vec![tables.flat_map(names).collect()];
            delete.selection.as_ref().is_none_or(|condition| of_condition(condition, &mut scopes, false))
        }
        Statement::Update(update) => {
            let mut scopes = vec![names(&update.table)];
            update.selection.as_ref().is_none_or(|condition| of_condition(condition, &mut scopes, false))
        }
        _ => true,
    };
    if fits { Ok(()) } else { Err(SqlError::internal(REFUSED)) }
}

/// The names that columns of each block may have before their dot, the outermost first.
type Scopes = Vec<Vec<String>>;

fn of_query(query: &Query, scopes: &mut Scopes) -> bool {
    let with = query.with.iter().flat_map(|with| &with.cte_tables);
    with.into_iter().all(|table| of_query(&table.query, &mut Vec::new())) && of_body(&query.body, scopes)
}

fn of_body(body: &SetExpr, scopes: &mut Scopes) -> bool {
    match body {
        SetExpr::Select(select) => of_select(select, scopes),
        SetExpr::Query(query) => of_query(query, scopes),
        SetExpr::SetOperation { left, right, .. } => of_body(left, scopes) && of_body(right, scopes),
        _ => true,
    }
}

fn of_select(select: &Select, scopes: &mut Scopes) -> bool {
    // What is joined by an outer join is no place for one, wherever it comes from.
    let joins = select.from.iter().flat_map(|table| &table.joins);
    scopes.push(select.from.iter().flat_map(names).collect());
    let joined = joins.into_iter().all(|join| match &join.join_operator {
        JoinOperator::Left(JoinConstraint::On(on))
        | JoinOperator::LeftOuter(JoinConstraint::On(on))
        | JoinOperator::Right(JoinConstraint::On(on))
        | JoinOperator::RightOuter(JoinConstraint::On(on))
        | JoinOperator::FullOuter(JoinConstraint::On(on)) => of_condition(on, scopes, true),
        JoinOperator::Join(JoinConstraint::On(on)) | JoinOperator::Inner(JoinConstraint::On(on)) => {
            of_condition(on, scopes, false)
        }
        _ => true,
    });
    let shown = select.projection.iter().all(|item| match item {
        SelectItem::UnnamedExpr(value) | SelectItem::ExprWithAlias { expr: value, .. } => {
            of_condition(value, scopes, false)
        }
        _ => true,
    });
    let conditions = select.selection.iter().chain(&select.having);
    let fits = joined && shown && conditions.into_iter().all(|value| of_condition(value, scopes, false));
    scopes.pop();
    let from = select.from.iter().flat_map(|table| {
        std::iter::once(&table.relation).chain(table.joins.iter().map(|join| &join.relation))
    });
    fits && from.into_iter().all(|factor| match factor {
        TableFactor::Derived { subquery, .. } => of_query(subquery, &mut Vec::new()),
        _ => true,
    })
}

/// `barred`: nothing correlated may stand here, because it is beside an OR or of an outer join.
fn of_condition(value: &Expr, scopes: &mut Scopes, barred: bool) -> bool {
    if let Expr::Exists { subquery, .. } | Expr::InSubquery { subquery, .. } | Expr::Subquery(subquery) =
        value
    {
        let met = correlation(subquery, scopes);
        let refused = met.skips || (met.any && (barred || met.beside_or || met.windows));
        return !refused && of_query(subquery, scopes);
    }
    let barred = barred || is_or(value);
    children(value).into_iter().all(|child| of_condition(child, scopes, barred))
}

fn is_or(value: &Expr) -> bool {
    matches!(value, Expr::BinaryOp { op: BinaryOperator::Or, .. })
}

/// What of the blocks around it a subquery names.
#[derive(Default)]
struct Correlation {
    any: bool,
    /// A block further out than the next.
    skips: bool,
    beside_or: bool,
    windows: bool,
}

fn correlation(query: &Query, scopes: &Scopes) -> Correlation {
    let mut met = Correlation::default();
    let SetExpr::Select(select) = query.body.as_ref() else { return met };
    let own: Vec<String> = select.from.iter().flat_map(names).collect();
    let shown = select.projection.iter().filter_map(|item| match item {
        SelectItem::UnnamedExpr(value) | SelectItem::ExprWithAlias { expr: value, .. } => Some(value),
        _ => None,
    });
    let on = select.from.iter().flat_map(|table| &table.joins).filter_map(|join| match &join.join_operator {
        JoinOperator::Join(JoinConstraint::On(on)) | JoinOperator::Inner(JoinConstraint::On(on)) => Some(on),
        _ => None,
    });
    for value in shown.chain(on).chain(&select.selection).chain(&select.having) {
        met.meet(value, &own, scopes, false);
    }
    met
}

impl Correlation {
    fn meet(&mut self, value: &Expr, own: &[String], scopes: &Scopes, beside_or: bool) {
        match value {
            Expr::CompoundIdentifier(parts) => {
                let table = parts.iter().rev().nth(1).map(|part| part.value.to_ascii_lowercase());
                let Some(table) = table.filter(|table| !own.contains(table)) else { return };
                let Some(outwards) = scopes.iter().rev().position(|names| names.contains(&table)) else {
                    return;
                };
                self.any = true;
                self.skips |= outwards > 0;
                self.beside_or |= beside_or;
            }
            Expr::Function(function) if function.over.is_some() => self.windows = true,
            _ => {}
        }
        let beside_or = beside_or || is_or(value);
        for child in children(value) {
            self.meet(child, own, scopes, beside_or);
        }
    }
}

/// What a condition consists of, as far as conditions are usually written.
fn children(value: &Expr) -> Vec<&Expr> {
    match value {
        Expr::BinaryOp { left, right, .. } => vec![left, right],
        Expr::UnaryOp { expr, .. }
        | Expr::Nested(expr)
        | Expr::IsNull(expr)
        | Expr::IsNotNull(expr)
        | Expr::IsTrue(expr)
        | Expr::IsNotTrue(expr)
        | Expr::IsFalse(expr)
        | Expr::IsNotFalse(expr)
        | Expr::InSubquery { expr, .. }
        | Expr::Cast { expr, .. } => vec![expr],
        Expr::Between { expr, low, high, .. } => vec![expr, low, high],
        Expr::InList { expr, list, .. } => std::iter::once(expr.as_ref()).chain(list).collect(),
        Expr::Case { operand, conditions, else_result, .. } => {
            let whens = conditions.iter().flat_map(|when| [&when.condition, &when.result]);
            operand.iter().chain(else_result).map(AsRef::as_ref).chain(whens).collect()
        }
        Expr::Function(function) => match &function.args {
            FunctionArguments::List(list) => list.args.iter().filter_map(argument).collect(),
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

fn argument(argument: &FunctionArg) -> Option<&Expr> {
    match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => Some(value),
        _ => None,
    }
}

/// What stands before the dot for the tables of a FROM.
fn names(table: &TableWithJoins) -> Vec<String> {
    let factors = std::iter::once(&table.relation).chain(table.joins.iter().map(|join| &join.relation));
    let last = |name: &ObjectName| {
        let part = name.0.last().and_then(|part| part.as_ident());
        part.map(|part| part.value.to_ascii_lowercase())
    };
    let name = |factor: &TableFactor| match factor {
        TableFactor::Table { name, alias, .. } => {
            alias.as_ref().map(|alias| alias.name.value.to_ascii_lowercase()).or_else(|| last(name))
        }
        TableFactor::Derived { alias, .. } => {
            alias.as_ref().map(|alias| alias.name.value.to_ascii_lowercase())
        }
        _ => None,
    };
    factors.filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use sqlparser::dialect::RedshiftSqlDialect;
    use sqlparser::parser::Parser;

    use super::*;

    fn fits(sql: &str) -> bool {
        let statements = Parser::parse_sql(&RedshiftSqlDialect {}, sql).unwrap();
        check(&statements[0]).is_ok()
    }

    #[test]
    fn subqueries_that_redshift_takes_apart() {
        for sql in [
            "DELETE FROM stage USING t WHERE stage.a = t.a AND t.b BETWEEN 1 AND 2",
            "DELETE FROM stage WHERE EXISTS (SELECT 1 FROM t WHERE t.a = stage.a AND t.b = stage.b)",
            "DELETE FROM stage WHERE a IN (SELECT a FROM t WHERE b = 1 OR b = 2) OR c = 1",
            "INSERT INTO t SELECT a FROM (SELECT a, row_number() OVER (PARTITION BY a ORDER BY a) AS n FROM stage) AS s WHERE n = 1 OR a IS NULL",
            "SELECT a FROM s WHERE a = (SELECT max(a) FROM l WHERE s.b = l.b)",
        ] {
            assert!(fits(sql), "{sql}");
        }
    }

    #[test]
    fn subqueries_that_redshift_refuses() {
        for sql in [
            "INSERT INTO t SELECT a FROM stage s WHERE NOT EXISTS (SELECT 1 FROM t o WHERE o.a = s.a OR s.a IS NULL)",
            "SELECT 1 FROM stage s WHERE s.a IS NULL OR NOT EXISTS (SELECT 1 FROM t WHERE t.a = s.a)",
            "DELETE FROM stage WHERE EXISTS (SELECT 1 FROM t WHERE (t.a = stage.a OR t.b = stage.b) AND t.c = 1)",
            "SELECT e.n FROM event e WHERE NOT EXISTS (SELECT 1 FROM l WHERE NOT EXISTS (SELECT 1 FROM s WHERE e.id = s.id))",
            "SELECT 1 FROM c LEFT JOIN e ON c.id = e.id AND e.x = (SELECT max(x) FROM s WHERE s.id = e.id)",
            "SELECT 1 FROM s WHERE a IN (SELECT row_number() OVER (ORDER BY l.a) FROM l WHERE l.b = s.b)",
            "UPDATE t SET a = 1 WHERE b = 2 OR EXISTS (SELECT 1 FROM s WHERE s.a = t.a)",
        ] {
            assert!(!fits(sql), "{sql}");
        }
    }
}
