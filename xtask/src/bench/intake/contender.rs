//! The contenders, and the measurement of each.

use std::{fmt, time::Duration};

use anyhow::ensure;
use serde_json::json;
use testbed::{FORMER, Gateway, Mongo, Scratch};

use super::figures::Outcome;
use crate::bench::{
    build::Build,
    cpu::Meter,
    direct,
    flask::{self, Flask},
    servers::{Bus, Kind},
    wrk::{self, Body},
};

/// A contender of the measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(super) enum Contender {
    /// The gateway of this tree
    Gateway,
    /// The app that is replaced: Flask and `insert_one`
    Flask,
    /// The gateway before groups were messages
    Before,
    /// The gateway of this tree, requests that are refused with 422: HTTP, JSON and checks alone
    Refusing,
    /// The bus alone, a group of as many contacts as connections, one message after the other
    Bus,
    /// The gateway of this tree, with TLS and an account a process
    GatewaySecured,
    /// The gateway before groups were messages, with TLS and an account a process
    BeforeSecured,
    /// The gateway of this tree, with three servers of the bus
    GatewayThree,
    /// The gateway before groups were messages, with three servers of the bus
    BeforeThree,
}

use Contender::{
    Before, BeforeSecured, BeforeThree, Gateway as Ours, GatewaySecured, GatewayThree, Refusing,
};

impl Contender {
    pub(super) const ALL: [Self; 9] = [
        Ours,
        Self::Flask,
        Before,
        Refusing,
        Self::Bus,
        GatewaySecured,
        BeforeSecured,
        GatewayThree,
        BeforeThree,
    ];

    /// Returns the numbers of clients that post at once.
    pub(super) fn connections(self) -> &'static [usize] {
        match self {
            Ours | Self::Flask | Before | Refusing | Self::Bus => &[1, 32, 256, 1_000],
            GatewaySecured | BeforeSecured | GatewayThree | BeforeThree => &[32, 256],
        }
    }

    /// Returns whether the contender is of the commit that this tree is compared with.
    pub(super) fn is_before(self) -> bool {
        matches!(self, Before | BeforeSecured | BeforeThree)
    }

    /// Returns whether the contender is of this tree, and has to answer each request as it should.
    pub(super) fn is_ours(self) -> bool {
        matches!(self, Ours | Refusing | GatewaySecured | GatewayThree)
    }

    fn body(self) -> Body {
        if self == Refusing { Body::Invalid } else { Body::Valid }
    }

    fn kind(self) -> Kind {
        match self {
            GatewaySecured | BeforeSecured => Kind::Secured,
            GatewayThree | BeforeThree => Kind::Three,
            Ours | Self::Flask | Before | Refusing | Self::Bus => Kind::Plain,
        }
    }

    /// Returns the settings of the gateway. With its own, the earlier commit refused contacts that
    /// it could not take within some 30 ms, which happens with 1,000 at once. The gateway of this
    /// tree needs none.
    fn settings(self) -> &'static [(&'static str, &'static str)] {
        if self.is_before() { &[("MAX_CONTACTS_IN_PROGRESS", "2000")] } else { &[] }
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self {
            Self::Flask => return f.write_str("Flask, insert_one"),
            Self::Bus => return f.write_str("bus alone, one message a group"),
            Refusing => return f.write_str("422 of the gateway"),
            _ if self.is_before() => FORMER,
            _ => "gateway",
        };
        f.write_str(what)?;
        f.write_str(match self.kind() {
            Kind::Plain => "",
            Kind::Secured => ", TLS and accounts",
            Kind::Three => ", three servers",
        })
    }
}

/// The app, which lives as long as the benchmark, and the duration of each measurement.
pub(super) struct Stage {
    time: Duration,
    app: Option<App>,
}

struct App {
    flask: Flask,
    mongo: Mongo,
    _scratch: Scratch,
}

impl Stage {
    pub(super) async fn start(flask: bool, time: Duration) -> anyhow::Result<Self> {
        let app = if flask { Some(App::start().await?) } else { None };
        Ok(Self { time, app })
    }

    /// Measures a contender on servers without earlier data.
    pub(super) async fn measure(
        &self,
        contender: Contender,
        connections: usize,
    ) -> anyhow::Result<Outcome> {
        match (contender, &self.app) {
            (Contender::Flask, Some(app)) => app.measure(connections, self.time).await,
            (Contender::Bus, _) => bus_alone(connections, self.time).await,
            _ => gateway(contender, connections, self.time).await,
        }
    }
}

impl App {
    async fn start() -> anyhow::Result<Self> {
        let environment = flask::install()?;
        let scratch = Scratch::new()?;
        let mongo = Mongo::start(&scratch.folder("mongodb")?).await?;
        let flask = Flask::start(&scratch.folder("flask")?, &environment, &mongo).await?;
        Ok(Self { flask, mongo, _scratch: scratch })
    }

    async fn measure(&self, connections: usize, time: Duration) -> anyhow::Result<Outcome> {
        self.mongo.collection("portfolio", "contacts").await?.drop().await?;
        let meter = Meter::start([&[&self.flask.server], &[&self.mongo.server]])?;
        let seen = wrk::post_contacts(&self.flask.url, connections, time).await?;
        Ok(Outcome::of_requests(seen, Body::Valid, meter.used()?))
    }
}

async fn gateway(
    contender: Contender,
    connections: usize,
    time: Duration,
) -> anyhow::Result<Outcome> {
    let build = if contender.is_before() { Build::Before } else { Build::This };
    let bus = Bus::start_as(contender.kind(), build).await?;
    let gateway = bus.gateway(contender.settings()).await?;
    let body = contender.body();
    if body == Body::Invalid {
        check_refusal(&gateway).await?;
    }
    let meter = Meter::start([&[&gateway.server], &bus.servers()])?;
    let seen = wrk::post(&gateway.url, connections, time, body).await?;
    Ok(Outcome::of_requests(seen, body, meter.used()?))
}

/// Fails unless an invalid contact is refused as invalid, and not because there is no room.
async fn check_refusal(gateway: &Gateway) -> anyhow::Result<()> {
    let contact = json!({"name": "Visitor", "email": "example.org", "message": "Hello"});
    let answer = gateway.http.post_json("/api/contact", &contact).await?;
    ensure!(answer.status == 422, "an invalid contact is answered with {}", answer.status);
    Ok(())
}

async fn bus_alone(connections: usize, time: Duration) -> anyhow::Result<Outcome> {
    let bus = Bus::start().await?;
    let meter = Meter::start([&[], &bus.servers()])?;
    let published = direct::publish(&bus.url(), connections, time).await?;
    Ok(Outcome::of_groups(published, meter.used()?))
}
