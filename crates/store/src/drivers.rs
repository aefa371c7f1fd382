//! The list of drivers: who may be named as an owner, and whose name and lock file can go.

use std::path::Path;

use homarus_contract::ids::DriverId;
use rusqlite::{Connection, params};

use crate::{
    error::OpError,
    layout, lock,
    ops::Ops,
    rows::{self, signed},
};

impl Ops<'_> {
    pub(crate) fn is_dead(&mut self, driver: &DriverId) -> bool {
        if !self.memory.dead.contains(driver) {
            if lock::is_alive(self.dir, driver) {
                return false;
            }
            self.memory.dead.insert(driver.clone());
        }
        true
    }

    /// Names this driver, so that others can find its lock file; clears away dead ones the first time.
    pub(crate) fn register(&mut self) -> Result<(), OpError> {
        self.connection
            .prepare_cached("INSERT INTO drivers (driver, since_ms) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
            .execute(params![self.driver.as_str(), signed(self.now_ms)])?;
        if self.memory.swept {
            return Ok(());
        }
        self.memory.swept = true;
        let idle: Vec<DriverId> = self
            .connection
            .prepare_cached(
                "SELECT driver FROM drivers WHERE driver <> ?1
                 AND NOT EXISTS (SELECT 1 FROM streams WHERE owner = driver) LIMIT 100",
            )?
            .query_map([self.driver.as_str()], |row| rows::driver(row, 0))?
            .filter_map(Result::transpose)
            .collect::<Result<_, _>>()?;
        for driver in idle {
            if self.is_dead(&driver) {
                self.forget_idle(&driver)?;
            }
        }
        let connection = self.connection;
        lock::sweep_strays(self.dir, |driver| {
            let find = connection.prepare_cached("SELECT 1 FROM drivers WHERE driver = ?1");
            find.and_then(|mut find| find.exists([driver.as_str()])).unwrap_or(true)
        });
        Ok(())
    }

    /// Strikes out a dead driver that owns nothing any more.
    pub(crate) fn forget_idle(&mut self, driver: &DriverId) -> Result<(), OpError> {
        let mut owns = self.connection.prepare_cached("SELECT 1 FROM streams WHERE owner = ?1")?;
        if !owns.exists([driver.as_str()])? {
            self.connection.prepare_cached("DELETE FROM drivers WHERE driver = ?1")?.execute([driver.as_str()])?;
            self.memory.forget.push(driver.clone());
        }
        Ok(())
    }
}

/// At the end of a process: takes its name and lock file away if it leaves no run behind.
pub(crate) fn retire(connection: &Connection, dir: &Path, driver: &DriverId) -> rusqlite::Result<()> {
    let owns = "SELECT 1 FROM streams WHERE owner = ?1";
    if connection.prepare(owns)?.exists([driver.as_str()])? {
        return Ok(());
    }
    if connection.prepare("SELECT 1 FROM drivers WHERE driver = ?1")?.exists([driver.as_str()])? {
        connection.execute("DELETE FROM drivers WHERE driver = ?1", [driver.as_str()])?;
    }
    lock::remove(layout::driver_lock(dir, driver));
    Ok(())
}
