//! One source file as a module: its submodules in order, and the paths into its own crate.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, ImplItemFn, ItemFn, ItemImpl, ItemMod, ItemUse, Macro, UseTree};

/// A file that is a module of its crate.
#[derive(Debug)]
pub struct Module {
    /// Its path in the crate; empty for `lib.rs`.
    pub path: Vec<String>,
    /// Its submodules that lie in files of their own, in the order of their declarations.
    pub children: Vec<String>,
    /// What it uses of its own crate.
    pub uses: BTreeSet<Use>,
    /// Its lines, without items that only tests compile.
    pub lines: usize,
}

/// A path into the own crate, from the crate's root.
pub type Use = Vec<String>;

impl Module {
    /// Reads a file below `src`; None for `main.rs` and for what only tests compile.
    ///
    /// # Panics
    /// When the file cannot be read or parsed.
    #[must_use]
    #[expect(clippy::expect_used, reason = "tests fail by panicking")]
    pub fn read(src: &Path, file: &Path) -> Option<Self> {
        let relative = file.strip_prefix(src).expect("the file lies below src").with_extension("");
        let mut path: Vec<String> = relative.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        if path == ["main"] || path.iter().any(|part| part == "tests") {
            return None;
        }
        if path == ["lib"] || path.last().is_some_and(|last| last == "mod") {
            path.pop();
        }
        let text = fs::read_to_string(file).expect("the file can be read");
        let parsed = syn::parse_file(&text).expect("the file can be parsed");
        let mut reader = Reader { path: &path, children: Vec::new(), uses: BTreeSet::new(), tests: 0 };
        reader.visit_file(&parsed);
        let Reader { children, uses, tests, .. } = reader;
        Some(Self { children, uses, lines: text.lines().count() - tests, path })
    }
}

struct Reader<'p> {
    path: &'p [String],
    children: Vec<String>,
    uses: BTreeSet<Use>,
    /// Lines of items that only tests compile.
    tests: usize,
}

impl Reader<'_> {
    /// Notes a path if it leads into the own crate.
    fn note(&mut self, segments: &[String]) {
        let mut base = match segments.first().map(String::as_str) {
            Some("crate") => Vec::new(),
            Some("self") => self.path.to_vec(),
            Some("super") => self.path[..self.path.len().saturating_sub(1)].to_vec(),
            _ => return,
        };
        for segment in &segments[1..] {
            match segment.as_str() {
                "super" => _ = base.pop(),
                "self" => {}
                name => base.push(name.to_owned()),
            }
        }
        self.uses.insert(base);
    }

    fn tree(&mut self, tree: &UseTree, before: &mut Vec<String>) {
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.tree(&path.tree, before);
                before.pop();
            }
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.tree(tree, before)),
            UseTree::Name(name) => self.leaf(name.ident.to_string(), before),
            UseTree::Rename(name) => self.leaf(name.ident.to_string(), before),
            UseTree::Glob(_) => self.note(&before.clone()),
        }
    }

    fn leaf(&mut self, name: String, before: &[String]) {
        self.note(&[before, &[name]].concat());
    }

    /// Whether only tests compile an item; then its lines are counted as theirs.
    fn skips(&mut self, attributes: &[Attribute], span: proc_macro2::Span) -> bool {
        let is_test = |attribute: &Attribute| {
            attribute.path().is_ident("cfg")
                && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
        };
        let skipped = attributes.iter().any(is_test);
        if skipped {
            let first = attributes
                .first()
                .map_or(span.start().line, |first| syn::spanned::Spanned::span(first).start().line);
            self.tests += span.end().line + 1 - first.min(span.start().line);
        }
        skipped
    }
}

/// Implements the visit of an item: not if only tests compile it.
macro_rules! unless_for_tests {
    ($($visit:ident: $item:ty),* $(,)?) => {
        $(fn $visit(&mut self, item: &'ast $item) {
            if !self.skips(&item.attrs, syn::spanned::Spanned::span(item)) {
                visit::$visit(self, item);
            }
        })*
    };
}

impl<'ast> Visit<'ast> for Reader<'_> {
    unless_for_tests!(
        visit_item_fn: ItemFn,
        visit_item_impl: ItemImpl,
        visit_impl_item_fn: ImplItemFn,
        visit_item_const: syn::ItemConst,
        visit_item_struct: syn::ItemStruct,
    );

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if self.skips(&item.attrs, syn::spanned::Spanned::span(item)) {
            return;
        }
        let moved = item.attrs.iter().any(|attribute| attribute.path().is_ident("path"));
        assert!(!moved && item.ident != "tests", "{:?}: {} hides product code", self.path, item.ident);
        assert!(item.content.is_none(), "{:?}: give the module {} a file", self.path, item.ident);
        self.children.push(item.ident.to_string());
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if !self.skips(&item.attrs, syn::spanned::Spanned::span(item)) {
            self.tree(&item.tree, &mut Vec::new());
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|part| part.ident.to_string()).collect();
        if segments.len() > 1 {
            self.note(&segments);
        }
        visit::visit_path(self, path);
    }

    /// `pub(in crate::a)` says who may use an item; it uses nothing.
    fn visit_vis_restricted(&mut self, _: &'ast syn::VisRestricted) {}

    /// Attributes name functions and modules too, as paths or in texts.
    fn visit_meta_list(&mut self, item: &'ast syn::MetaList) {
        visit::visit_meta_list(self, item);
        for segments in paths_of(&item.tokens) {
            self.note(&segments);
        }
        for text in texts_of(&item.tokens) {
            self.note(&text.split("::").map(str::to_owned).collect::<Vec<_>>());
        }
    }

    fn visit_item_extern_crate(&mut self, item: &'ast syn::ItemExternCrate) {
        assert!(item.ident != "self", "{:?}: name the modules of this crate by `crate::`", self.path);
    }

    /// The tokens of a macro are no paths yet: `a :: b` within them is taken for one.
    fn visit_macro(&mut self, item: &'ast Macro) {
        visit::visit_macro(self, item);
        for segments in paths_of(&item.tokens) {
            self.note(&segments);
        }
    }
}

/// The texts of an attribute, such as `"crate::a::b"` of `#[serde(with = "crate::a::b")]`.
fn texts_of(tokens: &TokenStream) -> Vec<String> {
    let text = |token| match token {
        TokenTree::Group(group) => texts_of(&group.stream()),
        TokenTree::Literal(literal) => {
            syn::parse_str::<syn::LitStr>(&literal.to_string()).map(|text| text.value()).into_iter().collect()
        }
        _ => vec![],
    };
    tokens.clone().into_iter().flat_map(text).collect()
}

fn paths_of(tokens: &TokenStream) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut current: Vec<String> = Vec::new();
    let mut colons = 0;
    for token in tokens.clone() {
        match token {
            TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
            TokenTree::Ident(ident) => {
                if colons != 2 {
                    found.push(std::mem::take(&mut current));
                }
                current.push(ident.to_string());
                colons = 0;
            }
            other => {
                found.push(std::mem::take(&mut current));
                colons = 0;
                if let TokenTree::Group(group) = other {
                    found.extend(paths_of(&group.stream()));
                }
            }
        }
    }
    found.push(current);
    found.retain(|path| path.len() > 1);
    found
}
