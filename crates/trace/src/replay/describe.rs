//! [`Described`]: what a dump of a replay says of allocations beside their places.

use std::collections::HashMap;

use vkmem_engine::{
    AliasDescription, AllocationId, Describe, Description, PoolId, sort_call_sites,
};

use super::objects::{Live, LiveKind};
use super::world::World;
use crate::dictionary::SiteId;
use crate::event::{Call, Data};
use crate::values::{Request, Resource};

#[derive(Default)]
struct Known {
    usage: u64,
    custom_data: String,
    call_site: Option<u32>,
    aliases: Vec<AliasDescription>,
    last_use: Option<u64>,
}

/// What is known of the live allocations of one allocator.
pub(super) struct Described {
    allocations: HashMap<AllocationId, Known>,
    pools: HashMap<PoolId, String>,
    call_sites: Vec<String>,
    has_aliases: bool,
}

fn usage(request: &Request) -> u64 {
    match &request.resource {
        Resource::Buffer(buffer) => buffer.usage,
        Resource::Image(image) => image.usage,
        Resource::Unknown | Resource::Stream(_) => 0,
    }
}

pub(super) fn data_text(data: &Data<'_>) -> String {
    match data {
        Data::None => String::new(),
        Data::Number(number) => format!("{number:#x}"),
        Data::Text(text) => (*text).to_string(),
    }
}

fn alias_name(world: &World, live: &Live) -> Option<String> {
    match world.trace.event(live.name_event? as usize).call {
        Call::Name { name, .. } => name.map(str::to_string),
        _ => None,
    }
}

/// The part of [`Described`] that is being filled.
struct Filling<'w> {
    world: &'w World,
    sites: HashMap<u32, u32>,
    call_sites: Vec<String>,
}

impl Filling<'_> {
    /// Returns the number of a call stack in the dump.
    fn call_site(&mut self, site: SiteId) -> u32 {
        let next = self.call_sites.len() as u32;
        let number = *self.sites.entry(site.0).or_insert(next);
        if number == next {
            let line = |it: crate::dictionary::Frame<'_>| {
                format!("{}:{} in {}", it.file, it.line, it.function)
            };
            let stack: Vec<String> = self.world.trace.stack(site).map(line).collect();
            self.call_sites.push(stack.join("\n"));
        }
        number
    }

    /// Returns the usage, data and call site that the events of an allocation tell.
    fn of_events(&mut self, live: &Live) -> (Option<Request>, String, Option<u32>) {
        let event = self.world.trace.event(live.event as usize);
        let (request, mut data) = match &event.call {
            Call::Allocate { request, data, .. } => (Some(*request), data_text(data)),
            Call::Alias { request, .. } | Call::Import { request, .. } => {
                (Some(*request), String::new())
            }
            _ => (None, String::new()),
        };
        if let Call::SetData { data: later, .. } =
            &self.world.trace.event(live.data_event as usize).call
        {
            data = data_text(later);
        }
        let site = event.site.map(|it| self.call_site(it));
        (request, data, site)
    }
}

impl Described {
    /// Collects what the trace says of the live allocations of an allocator.
    pub fn new(world: &World, allocator: u16) -> Self {
        let mut filling = Filling { world, sites: HashMap::new(), call_sites: Vec::new() };
        let mut allocations: HashMap<AllocationId, Known> = HashMap::new();
        let mut has_aliases = false;
        world.allocations.each(|live| {
            let is_alias = matches!(live.kind, LiveKind::Alias);
            // Of what waits for the device a dump tells what its memory is used for, no more.
            if live.allocator != allocator || (is_alias && live.is_retired) {
                return;
            }
            let (request, mut custom_data, call_site) = filling.of_events(live);
            if live.is_retired {
                custom_data.clear();
            }
            let usage = request.as_ref().map_or(0, usage);
            let known = allocations.entry(live.allocation.id).or_default();
            if is_alias {
                has_aliases = true;
                known.aliases.push(AliasDescription {
                    offset: live.allocation.offset,
                    size: live.size,
                    kind: request.map_or_else(Default::default, |it| it.kind),
                    usage,
                    name: alias_name(world, live),
                    custom_data: Some(custom_data.as_str().into())
                        .filter(|_| !custom_data.is_empty()),
                    call_site,
                });
                return;
            }
            let last_use = match &live.kind {
                LiveKind::Evictable(it) if !live.is_retired => Some(it.last_use()),
                _ => None,
            };
            (known.usage, known.custom_data, known.call_site) = (usage, custom_data, call_site);
            known.last_use = last_use;
        });
        let mut pools = HashMap::new();
        world.pools.each(|pool| {
            if let Some(name) = pool.name.clone().filter(|_| pool.allocator == allocator) {
                pools.insert(pool.id, name);
            }
        });
        let (call_sites, numbers) = sort_call_sites(&filling.call_sites);
        let renumber = |site: &mut u32| *site = numbers[*site as usize];
        for known in allocations.values_mut() {
            known.call_site.iter_mut().for_each(renumber);
            known.aliases.iter_mut().flat_map(|it| &mut it.call_site).for_each(renumber);
        }
        Self { allocations, pools, call_sites, has_aliases }
    }
}

impl Describe for Described {
    fn allocation(&self, id: AllocationId) -> Description<'_> {
        let Some(known) = self.allocations.get(&id) else { return Description::default() };
        Description {
            usage: known.usage,
            custom_data: &known.custom_data,
            call_site: known.call_site,
            aliases: &known.aliases,
            last_use: known.last_use,
        }
    }

    fn pool(&self, id: PoolId) -> Option<&str> {
        self.pools.get(&id).map(String::as_str)
    }

    fn call_sites(&self) -> &[String] {
        &self.call_sites
    }

    fn has_aliases(&self) -> bool {
        self.has_aliases
    }
}
