//! Directories: who and what the ids of a log are, and which fields each kind of them has.

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(usize)]
pub enum Kind {
    Organization,
    Project,
    ApiKey,
    User,
    Membership,
}

/// A field a mapping can name, and whether it must.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field {
    pub name: &'static str,
    pub required: bool,
}

const fn required(name: &'static str) -> Field {
    Field { name, required: true }
}

const fn optional(name: &'static str) -> Field {
    Field { name, required: false }
}

impl Field {
    /// Whether it holds ids, of which long ones are clipped as the log's are.
    pub fn is_id(name: &str) -> bool {
        name == "id" || name.ends_with("_id")
    }
}

impl Kind {
    pub const ALL: [Kind; 5] = [Kind::Organization, Kind::Project, Kind::ApiKey, Kind::User, Kind::Membership];
    /// For hints.
    pub const ALLOWED: &'static str = "organization, project, api_key, user, membership";

    pub fn parse(text: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == text)
    }

    pub fn name(self) -> &'static str {
        match self {
            Kind::Organization => "organization",
            Kind::Project => "project",
            Kind::ApiKey => "api_key",
            Kind::User => "user",
            Kind::Membership => "membership",
        }
    }

    /// The table of ours that is read while none of the host's is attached; its columns are named as the fields.
    pub fn shipped(self) -> &'static str {
        match self {
            Kind::Organization => "llm.organization",
            Kind::Project => "llm.project",
            Kind::ApiKey => "llm.api_key",
            Kind::User => "llm.app_user",
            Kind::Membership => "llm.membership",
        }
    }

    pub fn fields(self) -> &'static [Field] {
        const ORGANIZATION: &[Field] = &[required("id"), optional("name"), optional("plan"), optional("status")];
        const PROJECT: &[Field] = &[required("id"), required("organization_id"), optional("name"), optional("status")];
        const API_KEY: &[Field] = &[required("id"), optional("project_id"), optional("label"), optional("user_id"), optional("status")];
        // A table of users may itself say of which organization they are members, in which role; both or neither.
        const USER: &[Field] = &[required("id"), optional("name"), optional("email"), optional("organization_id"), optional("role")];
        const MEMBERSHIP: &[Field] = &[required("organization_id"), required("user_id"), required("role")];
        match self {
            Kind::Organization => ORGANIZATION,
            Kind::Project => PROJECT,
            Kind::ApiKey => API_KEY,
            Kind::User => USER,
            Kind::Membership => MEMBERSHIP,
        }
    }

    /// The fields of [`Kind::fields`] that the shipped table has.
    pub fn shipped_fields(self) -> impl Iterator<Item = &'static str> {
        self.fields().iter().map(|field| field.name).filter(move |name| self != Kind::User || !["organization_id", "role"].contains(name))
    }
}

#[cfg(test)]
mod tests {
    use super::Kind;

    #[test]
    fn kinds_are_found_by_their_names() {
        for kind in Kind::ALL {
            assert_eq!(Kind::parse(kind.name()), Some(kind));
            assert!(kind.shipped_fields().count() <= kind.fields().len());
        }
        assert_eq!(Kind::parse("app_user"), None);
    }
}
