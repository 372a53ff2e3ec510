//! The words of a schema file.

/// Declares an enum whose values are words of a schema file.
macro_rules! words {
    ($(#[$about:meta])* $name:ident ($what:literal) { $($(#[$doc:meta])* $value:ident = $word:literal,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$doc])* $value,)* }

        impl $name {
            /// The word in a schema file.
            pub fn name(self) -> &'static str {
                match self { $(Self::$value => $word,)* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                [$(Self::$value),*].into_iter().find(|value| value.name() == text).ok_or_else(|| {
                    let (what, names) = ($what, [$($word),*].join(", "));
                    format!("there is no {what} `{}`; {what}s are {names}", text.escape_debug())
                })
            }
        }
    };
}

pub(super) use words;
